"""Images that are read while a trial trains make the very trial of those that lie in memory."""

import threading
import time
from dataclasses import replace

import chainer
import fashion_files
import numpy as np
import pytest
import tiny
from test_resume import run_until_done

from chainer_jo.datasets.image_files import ImageFiles
from chainer_jo.errors import DataError
from chainer_jo.training import data, epoch_tables, processes, read_ahead
from chainer_jo.training.images import ResidentImages, StreamedImages, pixel_mean
from chainer_jo.training.iterators import ResidentIterator, StreamedIterator

CPU = chainer.get_device('@numpy')
COUNT = 400
CONFIG = tiny.config('ours', 'common.pad=2', 'common.flip=true')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return fashion_files.write(tmp_path_factory.mktemp('files'), COUNT)


@pytest.fixture(scope='module')
def resident():
    return fashion_files.first(COUNT)


@pytest.fixture(scope='module')
def expected(tmp_path_factory, resident):
    out = tmp_path_factory.mktemp('resident')
    tiny.run(CONFIG, out, dataset=resident)
    return tiny.outcome(CONFIG, out)


@pytest.fixture
def threads(monkeypatch):
    def choose(count):
        monkeypatch.setattr(processes, 'cores', lambda: count)

    return choose


@pytest.mark.parametrize('count', [1, 8])
def test_a_trial_over_files_ends_like_one_over_arrays_with_any_number_of_threads(
    count, threads, files, expected, tmp_path
):
    threads(count)
    tiny.run(CONFIG, tmp_path, dataset=files)
    assert tiny.outcome(CONFIG, tmp_path) == expected


@pytest.mark.parametrize('method', ['gce', 'd2l', 'forward_estimated'])
def test_so_it_does_where_a_method_looks_at_all_images(method, files, resident, tmp_path):
    config = tiny.config(method)
    tiny.run(config, tmp_path / 'arrays', dataset=resident)
    tiny.run(config, tmp_path / 'files', dataset=files)
    assert tiny.outcome(config, tmp_path / 'files') == tiny.outcome(config, tmp_path / 'arrays')


def test_so_it_does_where_labels_are_corrected_by_a_pass_of_its_own(files, resident, tmp_path):
    config = tiny.config('ours', 'ours.correct.label_pass=eval')
    tiny.run(config, tmp_path / 'arrays', dataset=resident)
    tiny.run(config, tmp_path / 'files', dataset=files)
    assert tiny.outcome(config, tmp_path / 'files') == tiny.outcome(config, tmp_path / 'arrays')


def test_a_trial_over_files_stopped_at_every_step_ends_like_one_that_was_not(
    files,
    expected,
    sigterm_at,
    tmp_path,
):
    sigterm_at(range(1, tiny.STEPS + 1))
    assert run_until_done(CONFIG, tmp_path, dataset=files) == 2 * tiny.STEPS
    assert tiny.outcome(CONFIG, tmp_path) == expected


def test_the_mean_image_of_files_has_the_bits_of_that_of_arrays(files, resident):
    config = tiny.config('cross_entropy', 'common.train_images=301')
    first, second = (data.prepare(dataset, config).train for dataset in (files, resident))
    assert pixel_mean(first).tobytes() == pixel_mean(second).tobytes()


def draw(epoch):
    return epoch_tables.draw(0, 'train', epoch, 100, {'batch_size': 30, 'pad': 2, 'flip': True})


def iterators(files, resident, batch_size=30):
    """A streamed and a resident iterator over the same hundred images."""
    mean, index = np.full((1, 28, 28), 0.5, 'f'), np.arange(100)[::-1]
    labels = np.zeros(100, 'i')
    arguments = draw, batch_size, 2, CPU
    streamed = StreamedImages(data.Part(files.train, index, labels), mean, CPU)
    in_memory = ResidentImages(resident.train.images[index], mean)
    return streamed.iterate(*arguments), in_memory.iterate(*arguments)


def test_both_forms_take_the_same_images_step_by_step_over_the_ends_of_epochs(files, resident):
    streamed, in_memory = iterators(files, resident)
    assert (type(streamed), type(in_memory)) == (StreamedIterator, ResidentIterator)
    seen = []
    for step in range(1, 15):
        next(streamed), next(in_memory)
        np.testing.assert_array_equal(streamed.images(), in_memory.images())
        for iterator in (streamed, in_memory):
            assert iterator.iteration == step
            assert iterator.epoch_detail == step * 30 / 100
            assert iterator.previous_epoch_detail == (step - 1) * 30 / 100
            assert iterator.epoch == int(step * 30 / 100)
        seen.append(streamed.is_new_epoch)
    # Batches of 30: the 4th, 7th, 10th and 14th hold the last image of an epoch.
    assert [i for i, new in enumerate(seen, 1) if new] == [4, 7, 10, 14]
    streamed.finalize()


def test_the_parts_of_two_ranks_are_together_the_whole_batch_in_both_forms(files, resident):
    mean, index = np.full((1, 28, 28), 0.5, 'f'), np.arange(100)
    part = data.Part(files.train, index, np.zeros(100, 'i'))
    for images in (
        StreamedImages(part, mean, CPU),
        ResidentImages(resident.train.images[index], mean),
    ):
        ranks = [
            images.iterate(lambda epoch, r=r: draw(epoch).part(r, 2), 30, 2, CPU, 100, 2)
            for r in (0, 1)
        ]
        whole = images.iterate(draw, 30, 2, CPU)
        for _ in range(5):  # Over the end of an epoch.
            for iterator in (*ranks, whole):
                next(iterator)
            joined = np.concatenate([rank.images() for rank in ranks])
            np.testing.assert_array_equal(joined, whole.images())
            assert {rank.epoch_detail for rank in ranks} == {whole.epoch_detail}
        for iterator in (*ranks, whole):
            iterator.finalize()


def test_what_a_captured_step_reads_stays_where_it_is(files, resident):
    for iterator in iterators(files, resident):
        next(iterator)
        row = vars(iterator.row).copy()
        batch = getattr(iterator, '_batch', None)
        for _ in range(5):
            next(iterator)
            assert all(value is row[name] for name, value in vars(iterator.row).items())
            assert getattr(iterator, '_batch', None) is batch
        iterator.finalize()


@pytest.mark.parametrize('step', [0, 1, 3, 4, 9])
def test_an_iterator_goes_on_from_any_step(step, files, resident):
    for whole, again in zip(*(iterators(files, resident) for _ in range(2)), strict=True):
        for _ in range(step):
            next(whole)
        saved = chainer.serializers.DictionarySerializer()
        whole.serialize(saved)
        # It may have read ahead of another place before.
        next(again)
        again.serialize(chainer.serializers.NpzDeserializer(saved.target))
        for _ in range(6):
            next(whole), next(again)
            np.testing.assert_array_equal(again.images(), whole.images())
            assert (again.epoch, again.is_new_epoch) == (whole.epoch, whole.is_new_epoch)
        whole.finalize()
        again.finalize()


def test_a_source_with_a_margin_crops_its_own_images_and_no_border_is_added(tmp_path):
    files = fashion_files.write(tmp_path, 50).train
    larger = ImageFiles(files.paths, files.labels, (28, 28), (24, 20), 1)
    assert (larger.shape, larger.margin) == ((1, 24, 20), (4, 8))
    index = np.arange(50)

    def draw(epoch):
        common = {'batch_size': 25, 'pad': 7, 'flip': True}
        return epoch_tables.draw(0, 'train', epoch, 50, common, larger.margin)

    mean = np.full(larger.shape, 0.25, 'f')
    images = StreamedImages(data.Part(larger, index, files.labels), mean, CPU)
    iterator, arrays = images.iterate(draw, 25, 7, CPU), files.read(index, np.zeros((50, 2), int))
    corners = set()
    for _ in range(4):
        row = next(iterator)
        for x, i, (top, left), flip in zip(
            iterator.images(), row.index, row.offset, row.flip, strict=True
        ):
            image = arrays[i, :, top : top + 24, left : left + 20] / np.float32(255) - 0.25
            np.testing.assert_allclose(x, image[..., ::-1] if flip else image, atol=1e-6)
            corners.add((top, left))
    assert {top for top, _ in corners} == set(range(5))
    assert {left for _, left in corners} == set(range(9))
    as_they_are = np.concatenate(list(images.batches(20)))
    np.testing.assert_allclose(as_they_are, arrays[..., 2:26, 4:24] / 255 - 0.25, atol=1e-6)
    iterator.finalize()


def test_a_file_that_cannot_be_read_ends_the_trial_and_is_named(tmp_path):
    dataset = fashion_files.write(tmp_path, COUNT)
    config = tiny.config('cross_entropy')
    place = data.prepare(dataset, config).train.index[7]
    path = dataset.train.paths[place]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=f'cannot read the image {path}'):
        tiny.run(config, tmp_path / 'out', dataset=dataset)
    assert not reading_threads()


def test_no_thread_is_left_when_a_trial_is_over_or_stopped(files, tmp_path):
    tiny.run(tiny.config('cross_entropy'), tmp_path, dataset=files)
    assert not reading_threads()


def reading_threads():
    return [t for t in threading.enumerate() if t.name.startswith('read')]


@pytest.mark.parametrize('count', [1, 3, 8])
def test_work_of_threads_is_handed_over_in_order_and_only_so_much_is_done_ahead(count):
    started = []

    def work(i):
        started.append(i)
        time.sleep(0.01 * (i % 3))
        return i * i

    results = read_ahead.read_ahead(work, range(10**9), count)
    for i in range(20):
        assert next(results) == i * i
        assert max(started) <= i + count + 1
    results.close()
    assert not reading_threads()


def test_work_that_ends_is_handed_over_to_its_end():
    assert list(read_ahead.read_ahead(str, range(7), 3)) == list('0123456')
    assert list(read_ahead.read_ahead(str, [], 3)) == []


def test_an_error_of_a_thread_is_raised_where_its_result_was_wanted():
    results = read_ahead.read_ahead(lambda i: 1 // (3 - i), range(9), 4)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_data_set_without_the_files_trains_where_it_says_its_own_mean(files, tmp_path):
    grey = replace(files, mean=np.full((1, 1, 1), 0.5, 'f'))
    made = tiny.assembly(CONFIG, grey)
    np.testing.assert_array_equal(made.train.mean, np.full((1, 28, 28), 0.5, 'f'))
