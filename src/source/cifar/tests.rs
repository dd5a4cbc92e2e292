use super::*;
use crate::sequence::Sequence;
use crate::testing::{check_rows, samples};
use ndarray::Ix3;

/// A record with these labels, and pixels that tell it from others.
fn record(labels: &[u8], seed: u8) -> Vec<u8> {
    let pixels = (0..IMAGE_LEN).map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed) ^ (at >> 8) as u8);
    labels.iter().copied().chain(pixels).collect()
}

/// CIFAR-10 with two records in each file; the labels of the training images are 0 to 9.
fn ten() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (at, name) in (0..).zip(CIFAR_10.train) {
        let records = [record(&[2 * at], 2 * at), record(&[2 * at + 1], 2 * at + 1)].concat();
        std::fs::write(dir.path().join(name), records).unwrap();
    }
    std::fs::write(dir.path().join("test_batch.bin"), record(&[7], 100)).unwrap();
    dir
}

fn hundred() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("train.bin"), [record(&[19, 99], 1), record(&[0, 20], 2)].concat()).unwrap();
    std::fs::write(dir.path().join("test.bin"), record(&[3, 4], 3)).unwrap();
    dir
}

#[test]
fn five_files_are_one_sequence() {
    let dir = ten();
    let cifar = Cifar::open_10(dir.path()).unwrap();
    check_rows(&cifar.train);
    check_rows(&cifar.test);
    let (images, labels) = cifar.train;
    assert_eq!((samples(&labels), labels.num_classes()), ((0..10).collect(), 10));
    assert_eq!((images.len(), images.bytes(5)), (10, &record(&[], 5)[..]));
    for (index, name) in [(0, "data_batch_1.bin"), (3, "data_batch_2.bin"), (9, "data_batch_5.bin")] {
        assert_eq!(
            (images.file(index), labels.file(index)),
            (Some(dir.path().join(name)), Some(dir.path().join(name)))
        );
    }
    assert_eq!(samples(&cifar.test.1), [7]);
    assert_eq!((images.layout(), images.size_bytes(0)), (Some(Ix3(32, 32, 3)), Some(3072)));
}

#[test]
fn pixels_are_at_their_places_in_both_orders() {
    let dir = ten();
    let images = Cifar::open_10(dir.path()).unwrap().train.0;
    let floats = images.clone().standardize([10.0, 20.0, 30.0], [1.0, 2.0, 4.0]).unwrap();
    for sequence in [images.clone(), images.clone().chw()] {
        check_rows(&sequence);
    }
    for sequence in [images.clone().unit(), images.clone().chw().unit(), floats.clone(), floats.clone().chw()] {
        check_rows(&sequence);
    }
    let (hwc, chw) = (images.get(6).unwrap(), images.clone().chw().get(6).unwrap());
    let (units, planes) = (images.unit().get(6).unwrap(), floats.clone().chw().get(6).unwrap());
    let scaled = floats.get(6).unwrap();
    let file = record(&[], 6);
    for (at, &byte) in file.iter().enumerate() {
        let (channel, y, x) = (at / 1024, at / 32 % 32, at % 32);
        assert_eq!((hwc[[y, x, channel]], chw[[channel, y, x]]), (byte, byte));
        assert_eq!(units[[y, x, channel]], f32::from(byte) / 255.0);
        let expected = (f32::from(byte) - [10.0, 20.0, 30.0][channel]) / [1.0, 2.0, 4.0][channel];
        assert_eq!((scaled[[y, x, channel]], planes[[channel, y, x]]), (expected, expected));
    }
    assert_eq!((floats.shape(), floats.chw().shape()), ([32, 32, 3], [3, 32, 32]));
}

#[test]
fn numbers_that_cannot_be_divided_by_are_refused() {
    let dir = ten();
    let images = Cifar::open_10(dir.path()).unwrap().train.0;
    for (mean, std) in [([0.0; 3], [1.0, 0.0, 1.0]), ([0.0, 0.0, f32::NAN], [1.0; 3]), ([0.0; 3], [1.0, 1.0, -1.0])] {
        assert_eq!(images.clone().standardize(mean, std).unwrap_err().kind(), ErrorKind::Argument);
    }
}

#[test]
fn the_hundred_have_fine_and_coarse_labels() {
    let dir = hundred();
    let fine = Cifar::open_100(dir.path()).unwrap();
    let coarse = Cifar::open_100_coarse(dir.path()).unwrap();
    assert_eq!((samples(&fine.train.1), fine.train.1.num_classes()), (vec![99, 20], 100));
    assert_eq!((samples(&coarse.train.1), coarse.train.1.num_classes()), (vec![19, 0], 20));
    assert_eq!(fine.train.0.bytes(1), record(&[], 2));
    check_rows(&coarse.test);
}

#[test]
fn a_label_out_of_range_is_refused_with_its_place() {
    let dir = ten();
    let path = dir.path().join("data_batch_4.bin");
    std::fs::write(&path, [record(&[1], 0), record(&[10], 0)].concat()).unwrap();
    let cifar = Cifar::open_10(dir.path()).unwrap();
    let error = cifar.train.get(7).unwrap_err();
    assert_eq!(error.message(), "label 10, expected one below 10 as there are that many classes");
    assert_eq!((error.index(), error.file(), error.kind()), (Some(7), Some(&*path), ErrorKind::Format));
}

#[test]
fn names_of_classes_are_read_if_they_are_there() {
    let dir = ten();
    let names = |text: &[u8]| {
        std::fs::write(dir.path().join("batches.meta.txt"), text).unwrap();
        Cifar::open_10(dir.path()).map(|cifar| cifar.class_names().to_vec())
    };
    assert!(Cifar::open_10(dir.path()).unwrap().class_names().is_empty());
    let expected: Vec<String> = ('a'..='j').map(String::from).collect();
    assert_eq!(names(b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap(), expected);
    assert_eq!(names(b"a\r\nb\r\nc\r\nd\r\ne\r\nf\r\ng\r\nh\r\ni\r\nj").unwrap(), expected);
    let error = names(b"a\nb\n").unwrap_err();
    assert_eq!(error.message(), "2 names of classes, expected 10");
    assert_eq!(error.file(), Some(&*dir.path().join("batches.meta.txt")));
    assert_eq!(names(b"a\xff").unwrap_err().message(), "byte 1 is not UTF-8, expected names of classes");
    assert_eq!(names(b"").unwrap_err().message(), "0 names of classes, expected 10");
}

#[test]
fn files_of_another_length_are_refused() {
    let dir = ten();
    let path = dir.path().join("data_batch_3.bin");
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 1, 3072, 3074, 2 * 3073 - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        let error = Cifar::open_10(dir.path()).unwrap_err();
        let expected = format!("{len} bytes, expected a multiple of 3073, the length of a record");
        assert_eq!((error.message(), error.file(), error.kind()), (&*expected, Some(&*path), ErrorKind::Format));
    }
    std::fs::write(&path, &whole[..3073]).unwrap();
    assert_eq!(Cifar::open_10(dir.path()).unwrap().train.len(), 9);
}

#[test]
fn files_that_are_missing_or_no_files_are_named() {
    let dir = ten();
    std::fs::remove_file(dir.path().join("data_batch_2.bin")).unwrap();
    let error = Cifar::open_10(dir.path()).unwrap_err();
    let expected = "the directory holds no data_batch_2.bin, nor a folder cifar-10-batches-bin that does";
    assert_eq!((error.message(), error.file(), error.kind()), (expected, Some(dir.path()), ErrorKind::Io));
    let error = Cifar::open_100(dir.path().join("nowhere")).unwrap_err();
    assert_eq!(error.message(), "not a directory, expected one that holds train.bin");
    std::fs::create_dir(dir.path().join("data_batch_2.bin")).unwrap();
    let error = Cifar::open_10(dir.path()).unwrap_err();
    assert_eq!(error.file(), Some(&*dir.path().join("data_batch_2.bin")));
}

#[test]
fn the_folder_of_the_archive_is_found() {
    let (dir, outer) = (hundred(), tempfile::tempdir().unwrap());
    std::fs::rename(dir.path(), outer.path().join("cifar-100-binary")).unwrap();
    assert_eq!(Cifar::open_100(outer.path()).unwrap().train.len(), 2);
}

#[test]
fn files_in_memory_may_shrink() {
    let dir = ten();
    let cifar = Cifar::options().in_memory(true).open_10(dir.path()).unwrap();
    std::fs::write(dir.path().join("data_batch_1.bin"), b"").unwrap();
    assert_eq!(cifar.train.0.bytes(0), record(&[], 0));
    let dir = hundred();
    let options = Cifar::options().in_memory(true);
    assert_eq!(options.open_100(dir.path()).unwrap().train.1.get(0).unwrap(), 99);
    assert_eq!(options.open_100_coarse(dir.path()).unwrap().train.1.get(0).unwrap(), 19);
}
