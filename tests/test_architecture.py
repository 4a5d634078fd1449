"""Who may import whom, and what only one place may do, read from the source."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'chainer_jo'
# Each room may import from the lines below its own, and from itself.
LAYERS = """
__main__
cli
commands api
doctor console
benchmark
sweep report
training
methods
links
functions
config
datasets paper
store backends
errors precision cores compat version
"""
LAYER = {room: -depth for depth, line in enumerate(LAYERS.split('\n')) for room in line.split()}
TREES = {
    path.relative_to(PACKAGE).with_suffix('').as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob('*.py'))
}


def room(module):
    return module.split('/')[0]


def imports(tree):
    """Returns the dotted names that a module imports, whether at its top or in a function."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'imports are absolute here'
            # `from a import b` may be the module a.b, or something in a.
            names |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
    return names


def rooms_imported(tree):
    parts = [name.split('.') for name in imports(tree)]
    return {part[1] for part in parts if part[0] == 'chainer_jo' and len(part) > 1}


def libraries(tree):
    return {name.split('.')[0] for name in imports(tree)}


def calls(tree):
    """Yields every call as (dotted name as far as it is one, node)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def top_level(name):
    """The modules of the package that importing one executes, and the libraries, at any depth."""
    seen, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        tree = TREES.get(module, TREES.get(f'{module}/__init__'))
        if tree is None:
            continue
        parents = module.split('/')[:-1]
        waiting += ['/'.join(parents[: i + 1]) for i in range(len(parents))]
        outside = ast.Module([n for n in tree.body if not isinstance(n, ast.FunctionDef)], [])
        for imported in imports(outside):
            inside = imported.startswith('chainer_jo.')
            path = imported.removeprefix('chainer_jo.').replace('.', '/')
            waiting.append(path if inside else imported.split('.')[0])
    return seen


def test_every_room_has_its_place():
    assert {room(module) for module in TREES} - {'__init__'} == set(LAYER)


@pytest.mark.parametrize('module', TREES)
def test_arrows_point_down_only(module):
    own, others = room(module), rooms_imported(TREES[module]) & set(LAYER) - {room(module)}
    if own == '__init__':
        # It lets Chainer be imported, and loads the public face when somebody asks for it.
        below = {'compat', 'version', 'api'}
    else:
        below = {other for other in LAYER if LAYER[other] < LAYER[own]}
    assert others - below == set()


@pytest.mark.parametrize('module', TREES)
def test_nobody_in_the_package_imports_the_whole_of_it(module):
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            assert 'chainer_jo' not in [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == 'chainer_jo':
            assert all(found(f'chainer_jo.{alias.name}') for alias in node.names)


def test_nobody_in_the_package_needs_the_public_face():
    users = [module for module in TREES if 'api' in rooms_imported(TREES[module])]
    assert {room(module) for module in users} == {'__init__', 'api'}


def modules_imported(tree):
    """Yields the modules of the package that are imported; of `from a import b`, b if it is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f'{node.module}.{alias.name}' for alias in node.names]
            names = [name if found(name) else node.module for name in inner]
        else:
            continue
        yield from filter(None, map(found, names))


def found(name):
    """Returns the module of a dotted name as in TREES, or None."""
    path = name.removeprefix('chainer_jo.').replace('.', '/')
    inside = name.startswith('chainer_jo.')
    return next((p for p in (path, f'{path}/__init__') if inside and p in TREES), None)


def test_there_is_no_circle_of_imports():
    graph = {module: set(modules_imported(tree)) for module, tree in TREES.items()}
    assert graph['training/optimizer'] == {'backends/__init__'}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(TREES)


def names_a_backend(tree):
    """Returns what a tree says of backends that only their room may say."""
    said = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in ('onednn', 'cudnn')
    ]
    return said + [n for n in modules_imported(tree) if re.match(r'backends/(?!__init__)', n)]


@pytest.mark.parametrize('module', [m for m in TREES if room(m) != 'backends'])
def test_nobody_above_the_backends_names_one_or_imports_its_modules(module):
    assert names_a_backend(TREES[module]) == []


@pytest.mark.parametrize(
    'code',
    [
        "backends.use('cudnn')",
        "if name == 'onednn': pass",
        'from chainer_jo.backends import cudnn',
        'from chainer_jo.backends.cuda_graph import CudaGraph',
        'import chainer_jo.backends.kernels',
    ],
)
def test_what_names_a_backend_is_recognised(code):
    assert names_a_backend(ast.parse(code))


@pytest.mark.parametrize(
    'module', [m for m in TREES if room(m) in ('links', 'functions', 'backends')]
)
def test_what_a_link_or_function_says_holds_no_option_of_the_commands(module):
    texts = [n.value for n in ast.walk(TREES[module]) if isinstance(n, ast.Constant)]
    assert not [text for text in texts if isinstance(text, str) and '--' in text]


@pytest.mark.parametrize('module', [module for module in TREES if room(module) == 'methods'])
def test_a_method_knows_nothing_of_training_data_files_or_devices(module):
    known = {'methods', 'functions', 'links', 'paper', 'errors'}
    assert rooms_imported(TREES[module]) <= known
    if module != 'methods/__init__':
        assert not libraries(TREES[module]) & {'cupy', 'os', 'pathlib', 'io'}


@pytest.mark.parametrize(
    'name',
    ['cli', 'config', 'console', 'datasets', 'errors', 'paper', 'report', 'store'],
)
def test_what_trains_nothing_imports_neither_chainer_nor_cupy(name):
    for module, tree in TREES.items():
        if room(module) == name:
            assert not libraries(tree) & {'chainer', 'cupy'}, module
            assert not top_level(module.removesuffix('/__init__')) & {'chainer', 'cupy'}, module


def test_the_plan_of_a_sweep_imports_neither_chainer_nor_cupy():
    assert not top_level('sweep/plan') & {'chainer', 'cupy'}
    # That this is able to find them:
    assert 'chainer' in top_level('training/trial')


def test_no_other_framework_is_in_the_package():
    for module, tree in TREES.items():
        assert not libraries(tree) & {'torch', 'jax', 'tensorflow'}, module


def writers(tree):
    """Returns the calls that make or change a file."""
    found = []
    for name, call in calls(tree):
        last = name.rpartition('.')[2]
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        modes = [
            v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)
        ]
        words = {ast.unparse(value) for value in values}
        if (
            (name == 'os.open' and not words & {'os.O_RDONLY', 'os.devnull'})
            or (last == 'open' and any(re.fullmatch('[rbt]*[wax+][bt+]*', mode) for mode in modes))
            or name in ('np.save', 'np.savez', 'np.savez_compressed', 'np.savetxt', 'json.dump')
            or last in ('tofile', 'savefig')
            or (last in ('write_text', 'write_bytes') and not name.startswith('store.'))
        ):
            found.append(ast.unparse(call))
    return found


@pytest.mark.parametrize(
    'code',
    [
        "open(path, 'w')",
        "open(path, mode='r+b')",
        "path.open('ab')",
        'os.open(path, os.O_WRONLY)',
        'path.write_text(text)',
        'np.savez(path, x=x)',
        'json.dump(value, file)',
    ],
)
def test_what_writes_is_recognised(code):
    assert writers(ast.parse(code)) == [code]


@pytest.mark.parametrize(
    'code',
    ['open(path)', "open(path, 'rb')", "tarfile.open(path, 'r|*')", 'store.write_text(p, t)'],
)
def test_what_only_reads_is_not_taken_for_writing(code):
    assert writers(ast.parse(code)) == []


@pytest.mark.parametrize('module', TREES)
def test_only_the_store_opens_files_for_writing(module):
    found = writers(TREES[module])
    assert (module == 'store') == bool(found), found


@pytest.mark.parametrize('module', TREES)
def test_only_the_commands_print_and_exit(module):
    forbidden = ('print', 'exit', 'quit', 'sys.exit', 'os._exit', 'input', 'breakpoint')
    forbidden += tuple(f'sys.{stream}.write' for stream in ('stdout', 'stderr'))
    found = [name for name, _ in calls(TREES[module]) if name in forbidden]
    raised = [
        ast.unparse(node)
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Raise) and 'SystemExit' in ast.unparse(node)
    ]
    # __main__ speaks where cli and console cannot be imported.
    assert module in ('cli', 'console', '__main__') or found + raised == []


@pytest.mark.parametrize('module', TREES)
def test_nothing_that_is_read_can_run_code(module):
    risky = {
        'pickle', '_pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve', 'yaml'
    }  # fmt: skip
    assert libraries(TREES[module]) & risky == set()
    for name, call in calls(TREES[module]):
        words = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in ('eval', 'exec', 'os.system', 'os.popen', 'pickle.load', 'pickle.loads')
        assert name.rpartition('.')[2] not in ('extractall', 'extract')
        assert words.get('shell', 'False') == 'False'
        assert words.get('allow_pickle', 'False') == 'False'
        if name in ('np.load', 'numpy.load'):
            assert words['allow_pickle'] == 'False'


@pytest.mark.parametrize('module', TREES)
def test_no_function_has_more_than_60_lines_besides_its_docstring(module):
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef):
            told = node.body[0] if ast.get_docstring(node) else None
            words = told.end_lineno - told.lineno + 1 if told else 0
            assert node.end_lineno - node.lineno + 1 - words <= 60, node.name
