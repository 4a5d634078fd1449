"""The commands as a contract: exit codes, three-line errors, what goes where, keys of the JSON."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from narrow import NARROW, OVERRIDES, ROOT, THREE_LINES, TINY, TRAIN, command

from chainer_jo import cli, config, paper, store
from chainer_jo.commands import options
from chainer_jo.datasets import label_files
from chainer_jo.links import pretrained

CIFAR10 = 'train --dataset cifar10 --noise symmetric --rate 0.5 --method ours'


@pytest.mark.parametrize(
    ('words', 'hint'),
    [
        ('', 'COMMAND'),
        ('trian', 'trian'),
        ('train', '--dataset'),
        (f'{CIFAR10} --speed 3', '--speed'),
        (f'{CIFAR10} --seed one', '--seed'),
        (f'{CIFAR10} --seed -1', 'write a number from 0 on'),
        (f'{CIFAR10} --seed 20261130123456', 'write a smaller number'),
        (f'{CIFAR10} --backend fast', '--backend'),
        (f'{CIFAR10} --preset qick', 'did you mean quick?'),
        (f'{CIFAR10} --set ours.fine_tune.b=1', 'did you mean ours.fine_tune.a?'),
        (f'{CIFAR10} --set ours.fine_tune.a=high', 'takes a number'),
        (f'{CIFAR10} --device gpu', 'cuda:N'),
        (f'{CIFAR10} --device cuda:99', '--device cpu'),
        (f'{CIFAR10} --noise symetric', 'did you mean symmetric?'),
        (f'{CIFAR10} --noise file', '--labels FILE'),
        (f'{CIFAR10} --labels labels.npy', '--labels FILE'),
        (f'{CIFAR10} --method tanka', 'did you mean tanaka?'),
        (f'{CIFAR10} --dataset cifar', 'did you mean cifar10?'),
        (f'{TRAIN} --rate 0.5 --data .', 'leave out --data'),
        (f'{CIFAR10} --rate 70', 'write 0.7'),
        (f'{CIFAR10} --rate 70%', '--rate'),
        (f'{CIFAR10} --rate nan', 'write for example 0.7'),
        (TRAIN, 'for example --rate 0.7'),
        ('plan tabel2', 'did you mean table2?'),
        ('plan table2 --only ours,tanka', 'did you mean tanaka?'),
        ('plan table2 --rates 0.5,70', 'write 0.7'),
        ('plan table2 --rates 0.5,', '--rates'),
        ('plan table2 --preset quick --rates 0.45', 'its rates are 0.5, 0.7'),
        ('run table2 --preset quick --rates 0.45', 'its rates are 0.5, 0.7'),
        ('plan ablations --rates 0.45', 'its rates are 0.5, 0.9, 0.1'),
        ('plan table3 --only backward --rates 0.5', 'table3 leaves out backward at rate 0.5'),
        ('plan table2 --trials 0', 'above 0'),
        ('plan table2 --preset fast', 'paper'),
        ('plan table2 --set common.batchsize=1', 'did you mean common.batch_size?'),
        ('run tabel2', 'did you mean table2?'),
        ('plan table4 --rates 0.5', 'leave out --rates'),
        ('run table2 --preset quick --weights x', 'leave out --weights'),
        (f'{TRAIN} --rate 0.5 --weights x', 'leave out --weights'),
        ('run table2 --jobs none', '--jobs'),
        ('report tabel2', 'did you mean table2?'),
        ('report table2 --preset qick', 'did you mean quick?'),
        ('diff tabel2', 'did you mean table2?'),
        ('show ours-none-s0-00000000', 'no trial'),
        ('methods our', 'did you mean ours?'),
    ],
)
def test_wrong_usage_ends_with_2_and_says_how_to_mend_it(refused, words, hint):
    code, said = refused(words)
    assert code == 2
    assert hint in said


@pytest.mark.parametrize('content', [None, b'', b'\x1f\x8b\x08\x00', 'truncated', 'not CIFAR-10'])
def test_a_missing_or_damaged_archive_ends_with_3(refused, tmp_path, content):
    path = tmp_path / 'cifar-10-binary.tar.gz'
    if isinstance(content, str):
        noise = tmp_path / 'data_batch_1.bin'
        noise.write_bytes(np.random.default_rng(0).bytes(100_000))
        with tarfile.open(path, 'w:gz') as archive:
            archive.add(noise, noise.name)
        if content == 'truncated':
            path.write_bytes(path.read_bytes()[:50_000])
    elif content is not None:
        path.write_bytes(content)
    code, said = refused(f'{CIFAR10} --data {path}')
    assert code == 3
    assert str(path) in said.splitlines()[0]


@pytest.mark.parametrize(
    ('labels', 'seen'),
    [
        (None, 'no such file'),
        (np.zeros(5999, np.int64), '5,999 labels'),
        (np.full(6000, 10), 'class 10 for example 0'),
        (np.full(6000, -1), 'class -1 for example 0'),
        (np.full(6000, 0.5), 'float64 0.5 for example 0'),
    ],
    ids=['missing', 'too short', 'class too high', 'class too low', 'fractions'],
)
def test_a_label_file_that_does_not_fit_ends_with_3(refused, tmp_path, labels, seen):
    if labels is not None:
        np.save(tmp_path / 'labels.npy', labels)
    code, said = refused(
        'train --dataset fashion_mnist --noise file --labels labels.npy --method ours'
    )
    assert code == 3
    assert re.search(seen, said)


def test_an_output_folder_that_cannot_be_written_ends_with_6(refused, tmp_path):
    (tmp_path / 'file').write_text('kept')
    code, said = refused(f'{TINY} --out file/results')
    assert code == 6
    assert '--out' in said


def test_show_of_a_folder_of_trials_names_one_of_them(call, tmp_path):
    code, _, said = call('show ours-1')
    assert code == 2
    assert 'change to the folder in which the trial was run' in said
    (tmp_path / 'results/quick/runs/ours-1').mkdir(parents=True)
    for named in ('results/quick', str(tmp_path / 'results/quick')):
        code, _, said = call(f'show {named}')
        assert code == 2
        assert f'{named} contains trials, and is not one' in said
        assert f'name one of them, such as {named}/runs/ours-1' in said


@pytest.mark.parametrize('name', ['report', 'diff'])
def test_a_report_on_a_folder_that_does_not_exist_makes_none(name, refused, tmp_path):
    code, said = refused(f'{name} table2 --preset quick --out resluts')
    assert code == 2
    assert 'there are no results in resluts' in said
    assert not (tmp_path / 'resluts').exists()


@pytest.mark.parametrize(
    ('override', 'warned'),
    [
        ('ours.fine_tune.a=2', '--set ours.fine_tune.a=2 does nothing, because ours is not'),
        ('tanaka.correct.begin=99', 'tanaka corrects no labels: it would begin after epoch 99'),
        ('tanaka.correct.begin=1', None),
    ],
)
def test_a_setting_that_does_nothing_is_told(override, warned, capsys):
    described = config.trial('tanaka', 'cifar10', 'symmetric', 0.5, 0, 'quick', [override])
    options.warn_of_settings([override], [described])
    said = capsys.readouterr().err
    assert ('warning' in said) == bool(warned)
    assert (warned or '') in said


def test_ctrl_c_before_training_ends_with_130_and_three_lines(call, tmp_path, monkeypatch):
    # As if it came while the data were read.
    monkeypatch.setattr(label_files, 'read_labels', lambda *_: signal.raise_signal(signal.SIGINT))
    # A shell that runs the tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        words = 'train --dataset fashion_mnist --noise file --labels labels.npy --method ours'
        code, _, said = call(words)
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130
    assert re.fullmatch(THREE_LINES, said), said


def test_results_go_to_stdout_and_all_else_to_stderr(trained):
    _, done = trained
    assert done.returncode == 0
    assert re.fullmatch(
        r'cross_entropy-symmetric-0\.5-s0-\w{8}  best 0\.\d{4}  last 0\.\d{4}  labels 0\.\d{4}  '
        r'in results/quick/runs/cross_entropy-symmetric-0\.5-s0-\w{8}\n',
        done.stdout,
    )
    *facts, first, second = done.stderr.splitlines()
    assert [line.split()[0] for line in facts[:3]] == ['data', 'machine', 'results']
    assert re.match(r'cross_entropy-\S+: Cross entropy; \d+\.\d % wrong labels; ', facts[3])
    assert re.match(r'cross_entropy-\S+: epoch 1/2 train  loss ', first)
    assert re.match(r'cross_entropy-\S+: epoch 2/2 train  loss ', second)


def test_nothing_is_coloured_when_nobody_looks(trained):
    _, done = trained
    assert '\x1b' not in done.stdout + done.stderr
    assert '\r' not in done.stdout + done.stderr


def test_a_trial_that_is_done_is_not_trained_again(trained, call):
    folder, done = trained
    (result,) = folder.glob('results/quick/runs/*/result.json')
    before = result.stat().st_mtime_ns
    code, out, said = call(TINY, folder)
    assert (code, out, said) == (0, done.stdout, '')
    assert result.stat().st_mtime_ns == before


def test_run_prints_the_table_and_trains_only_what_is_not_done(trained, call):
    words = f'table2 --preset quick --only cross_entropy --rates 0.5 {OVERRIDES}'
    code, out, said = call(f'run {words} --set gce.train.q=0.5', trained[0])
    assert code == 0
    warned, first, written = said.splitlines()
    assert warned == 'warning: --set gce.train.q=0.5 does nothing, because gce is not trained'
    assert first.startswith('1 trial: 1 done')
    assert written.split() == [
        'written', 'results/quick/table2.md,', 'results/quick/README.md,',
        'results/quick/report.html',
    ]  # fmt: skip
    assert out.rstrip('\n') == (trained[0] / 'results/quick/table2.md').read_text().rstrip('\n')


def test_a_run_goes_on_past_a_failed_trial_and_ends_with_the_list_and_plan_knows_it(tmp_path):
    words = f'table2 --preset quick --only cross_entropy,gce --rates 0.5 --out here {OVERRIDES}'
    words += ' --set cross_entropy.train.learning_rate=1e9 --set gce.train.epochs=2 --trials 1'
    words += ' --set gce.train.divide_after=[1] --set gce.train.prune_from=1'

    done = command(f'run {words} --device cpu', tmp_path)

    assert done.returncode == 5, done.stderr
    assert paper.methods()['gce'] in done.stdout
    *_, problem, seen, fix = done.stderr.splitlines()
    assert problem == 'error: 1 of 2 trials failed'
    reason = r'training diverged: .* is not finite \(stage train, .*\)'
    assert re.fullmatch(rf'  seen: cross_entropy-symmetric-0\.5-s0-\w+: {reason}', seen)
    assert fix.startswith('  fix:  fix the cause')
    planned = command(f'plan {words}', tmp_path).stdout
    assert re.search(rf'^failed   cross_entropy-symmetric-0\.5-s0-\w+: {reason}$', planned, re.M)
    assert '2 trials: 1 done, 0 begun, 0 to do, 1 failed' in planned


def test_train_json_prints_a_row_an_epoch_and_the_result(call):
    code, out, said = call(f'{TINY} --json')
    assert (code, said) == (0, '')
    start, begin, *lines, result = [json.loads(line) for line in out.splitlines()]
    assert start == {'start': []}
    assert begin['begin']['data'] == 'Fashion-MNIST'
    epochs = [line for line in lines if 'step' not in line]
    assert [row['epoch'] for row in epochs] == [1, 2]
    assert list(epochs[0]) == [
        'epoch', 'stage', 'stage_epoch', 'learning_rate', 'main/loss', 'main/accuracy',
        'validation/main/accuracy', 'test/main/accuracy', 'label_accuracy', 'seconds',
    ]  # fmt: skip
    assert result['result']['epochs'] == 2


def keys(text):
    rows = json.loads(text)
    assert rows
    assert len({tuple(row) for row in rows}) == 1
    return set(rows[0])


def test_report_json_has_the_rows_of_the_contract(trained, call):
    code, out, said = call('report table2 --preset quick --json', trained[0])
    assert (code, said) == (0, '')
    assert keys(out) == {
        'table', 'method', 'noise', 'rate', 'trials', 'best_mean', 'best_std', 'last_mean',
        'last_std', 'label_accuracy_mean', 'paper_best', 'paper_last', 'modified',
    }  # fmt: skip
    (row,) = [row for row in json.loads(out) if row['modified']]
    assert row['modified'] == sorted(f'{key}={value}' for key, value in NARROW.items())
    assert row['rate'] == 0.5
    assert 0 <= row['last_mean'] <= 1
    assert row['paper_last'] == 0.5311


@pytest.mark.parametrize('table', ['ablations', 'claims', 'small_a', 'decay'])
def test_a_table_of_variants_has_a_folder_of_its_own(table, call, tmp_path):
    assert call(f'report {table} --preset quick')[0] == 0
    assert (tmp_path / 'results' / f'quick_{table}' / f'{table}.md').exists()
    assert call('report table2 --preset quick')[0] == 0
    assert (tmp_path / 'results' / 'quick' / 'table2.md').exists()


@pytest.mark.parametrize('trial', ['', '~nobody-of-this-name/x'])
def test_a_trial_without_a_name_is_a_mistake_in_usage(trial, call):
    code, _, err = call(f'show {shlex.quote(trial)}')
    assert code == 2
    assert len(err.splitlines()) == 3


def test_report_all_covers_every_table(trained, call):
    code, out, _ = call('report all --preset quick --json', trained[0])
    assert code == 0
    assert {row['table'] for row in json.loads(out)} == set(paper.tables())


def test_report_all_has_of_each_table_what_it_has_alone(call, tmp_path):
    for name in ('quick', 'quick_small_a'):
        runs = ROOT / 'results/reference' / name / 'runs'
        shutil.copytree(runs, tmp_path / 'results' / name / 'runs')
    alone = json.loads(call('report small_a --preset quick --json')[1])
    assert sum(row['trials'] for row in alone) == 30
    code, out, _ = call('report all --preset quick --json')
    assert code == 0
    assert [row for row in json.loads(out) if row['table'] == 'small_a'] == alone
    assert not (tmp_path / 'results/quick/small_a.md').exists()


def test_plan_json_has_the_rows_of_the_contract_and_knows_what_is_done(trained, call):
    code, out, said = call('plan table2 --preset quick --json', trained[0])
    assert (code, said) == (0, '')
    assert keys(out) == {'trial', 'state', 'epochs', 'seconds'}
    assert {row['state'] for row in json.loads(out)} == {'to do'}
    narrow = f'plan table2 --preset quick --only cross_entropy --json {OVERRIDES}'
    done, todo = json.loads(call(narrow, trained[0])[1])
    assert (done['state'], done['epochs']) == ('done', 2)
    assert done['seconds'] > 0
    assert (todo['state'], todo['epochs']) == ('to do', 2)


def test_diff_ends_with_0_while_nothing_is_outside_tolerance(trained, call):
    code, out, said = call('diff table2 --preset quick --json', trained[0])
    assert code == 0
    assert said.startswith('no cell has a verdict')
    assert keys(out) >= {'table', 'method', 'noise', 'rate', 'best_difference', 'last_verdict'}


def test_methods_json_has_the_names_and_titles_of_the_contract(call):
    code, out, said = call('methods --json')
    assert (code, said) == (0, '')
    assert keys(out) == {'name', 'title'}
    assert {row['name'] for row in json.loads(out)} >= {'cross_entropy', 'tanaka', 'ours'}


@pytest.mark.parametrize('what', ['data', 'weights'])
def test_a_run_does_not_take_trials_from_other_data_or_weights_for_its_own(
    what, call, tmp_path, monkeypatch
):
    config = tiny.config('cross_entropy')
    tiny.run(config, tmp_path)
    path = tiny.folder(config, tmp_path) / 'result.json'
    result = store.read_sealed(path)
    if what == 'data':
        result['data']['digest'] = 'ab' * 32
    else:
        result['weights'] = 'ab' * 32
        monkeypatch.setattr(pretrained, 'read', lambda path: SimpleNamespace(digest='cd' * 32))
    store.write_sealed(path, result)
    settings = ' '.join(f"--set '{item}'" for item in tiny.overrides('cross_entropy'))
    named = '' if what == 'data' else f'--weights {tmp_path}/w.npz'
    words = f'run table2 --preset quick --only cross_entropy --rates 0.5 --trials 1 {settings}'
    words += f' --device cpu --out {tmp_path}'
    code, _, said = call(f'{words} {named}')
    assert code == 2
    assert f'has a result from other {"initial " * (what == "weights")}{what}' in said


def test_one_method_as_json_has_its_card(call):
    code, out, _ = call('methods gce --json')
    assert code == 0
    assert json.loads(out) == {
        'name': 'gce', 'title': paper.methods()['gce'], 'card': call('methods gce')[1].rstrip('\n'),
    }  # fmt: skip


@pytest.mark.parametrize('name', paper.methods())
def test_the_card_of_every_method_says_what_it_is(call, name):
    code, out, _ = call(f'methods {name}')
    assert code == 0
    assert [word for word in ('Paper', 'Idea', 'Symbols', 'Differs') if word not in out] == []


def test_show_finds_a_trial_by_its_id_and_by_its_folder(trained, call):
    folder, done = trained
    trial = done.stdout.split()[0]
    code, out, said = call(f'show {trial} --json', folder)
    assert (code, said) == (0, '')
    shown = json.loads(out)
    assert (shown['trial'], shown['state'], len(shown['log'])) == (trial, 'done', 2)
    assert call(f'show results/quick/runs/{trial} --json', folder)[1] == out
    said = call(f'show {trial[:-3]}', folder)[2]
    assert f'did you mean {trial}?' in said
    assert 'in results/quick' in said


def test_doctor_names_versions_device_backend_and_data(call):
    code, out, _ = call('doctor --json')
    assert code == 0
    findings = json.loads(out)
    assert findings['chainer'] == '7.8.1'
    assert {'python', 'numpy', 'gpu', 'device', 'backend', 'data'} <= set(findings)
    (embedded,) = [found for found in findings['data'] if found['name'] == 'fashion_mnist']
    assert embedded['variant'] == 'embedded subset'
    assert len(embedded['digest']) == 64


def test_doctor_shows_all_it_found_before_it_refuses_a_device(call):
    code, out, said = call('doctor --device cuda:99')
    assert code == 2
    assert re.search(r'^chainer +7.8.1$', out, re.MULTILINE)
    assert re.search(r'^device +none: ', out, re.MULTILINE)
    assert 'the device cuda:99 cannot be used' in said


def test_doctor_says_what_is_wrong_with_data(call, tmp_path):
    code, out, _ = call(f'doctor --data {tmp_path}')
    assert code == 0
    assert re.search(r'cifar10 +no CIFAR-10 in .*\n +fix: put cifar-10-binary.tar.gz', out)


def test_commands_that_train_nothing_do_not_import_chainer(trained, tmp_path):
    script = """
import shlex, sys
from chainer_jo import cli
for words in sys.argv[1:]:
    try:
        cli.main(shlex.split(words))
    except SystemExit as exited:
        assert exited.code == 0, words
    assert not {'chainer', 'cupy'} & set(sys.modules), words
"""
    words = [
        *('--help', 'train --help', 'methods', 'methods ours', 'plan table2 --preset quick'),
        *('diff table2 --preset quick', 'report table2 --preset quick'),
        f'show {trained[1].stdout.split()[0]}',
    ]
    done = subprocess.run(
        [sys.executable, '-c', script, *words],
        cwd=trained[0],
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_help_and_plan_do_not_import_what_draws_figures(tmp_path):
    for words in ('--help', 'plan table2', 'methods'):
        done = subprocess.run(
            [sys.executable, '-X', 'importtime', '-m', 'chainer_jo', *words.split()],
            cwd=tmp_path,
            env=os.environ | {'PYTHONPATH': str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        imported = set(re.findall(r'\| +([\w.]+)$', done.stderr, re.M))
        assert 'numpy' in imported
        assert not {'matplotlib', 'chainer', 'cupy', 'pooch', 'rich'} & imported


def examples():
    """Every command line that the help texts and the README show."""
    texts = [cli.EXAMPLES, (ROOT / 'README.md').read_text()]
    for text in texts:
        yield from re.findall(r'python -m chainer_jo ([^`#\n]*)', text)
        for script, words in re.findall(r'bash (reproduce/\w+\.sh)([^`#\n]*)', text):
            runs = re.search(r'-m chainer_jo (.*)"\$@"', (ROOT / script).read_text())
            if runs:
                yield runs[1] + words


@pytest.mark.parametrize('words', sorted(set(examples())))
def test_every_command_that_is_shown_can_be_read(words):
    options = cli.parser().parse_args(shlex.split(words))
    assert callable(options.command)
    table = getattr(options, 'table', 'all')
    assert table in (*paper.tables(), 'all')


def test_there_are_examples_of_every_main_command():
    shown = {words.split()[0] for words in examples()}
    assert shown >= {'run', 'train', 'plan', 'diff', 'methods'}
