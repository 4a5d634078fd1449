from chainer_jo.sweep import local


def test_a_cpu_gets_a_trial_a_core_and_a_gpu_one_trial():
    assert local.default_jobs('@numpy') == local.cores()
    assert local.default_jobs('@cupy:1') == 1
