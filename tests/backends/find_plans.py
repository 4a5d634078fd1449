"""Prints, for each convolution of a JSON list, how many bytes of memory its plan needs on an H100.

Or the error. Run with a stand-in for CUDA's runtime, which cuDNN's front end asks for the GPU.
"""

import json
import sys

from chainer_jo.backends import cudnn_plans
from chainer_jo.errors import ChainerJoError

# As NVIDIA publishes them.
H100 = {
    'maxGridSize': [2147483647, 65535, 65535],
    'maxBlockSize': [1024, 1024, 64],
    'regsPerBlock': 65536,
    'multiProcessorCount': 132,
    'smClockRateKHz': 1980000,
    'memClockRateKHz': 2619000,
    'memoryBusWidth': 5120,
    'l2CacheSize': 52428800,
    'warpSize': 32,
    'maxSharedMemoryPerBlock': 49152,
    'maxSharedMemoryPerBlockOptin': 232448,
    'reservedSharedMemoryPerBlock': 1024,
    'maxSharedMemoryPerSM': 233472,
    'maxRegistersPerSM': 65536,
    'pciDeviceId': 0,
    'maxCtasPerSM': 32,
    'maxThreadsPerBlock': 1024,
    'maxThreadsPerSM': 2048,
    'isTccDriver': 0,
    'supportCoopLaunch': 1,
    'oversizedSharedMemoryPerBlock': 0,
    'deviceVer': 900,
    'driverVer': 13000,
    'cudaDeviceId': 0,
    'totalGlobalMem': 85520809984,
    'deviceName': 'NVIDIA H100 80GB HBM3',
    'name': 'NVIDIA H100 80GB HBM3',
}


def answer(convolution, device):
    try:
        plan = cudnn_plans.build(cudnn_plans.Convolution(*convolution), device_property=device)
    except ChainerJoError as error:
        return str(error)
    return plan.get_workspace_size()


if __name__ == '__main__':
    h100 = cudnn_plans.load().create_device_properties(json.dumps(H100))
    json.dump([answer(convolution, h100) for convolution in json.load(sys.stdin)], sys.stdout)
