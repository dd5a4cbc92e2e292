//! What becomes a sample, in which order, and what is known of it.

use procession::source::{Bucket, LabelledObjects, Objects};
use procession::{AsyncSequence, AsyncSequenceExt, ErrorKind, Loader};

use super::server::Server;
use super::{all, block_on, in_memory, texts, write};

/// Names that are not plain.
const NAMES: [&str; 9] = [
    "a b/with space.txt",
    "a+b=c&d/plus+.txt",
    "empty",
    "per%20cent/100%.txt",
    "question?.txt",
    "tilde~star*.txt",
    "z/deep/er/and/deeper.TXT",
    "é.txt",
    "ümlaut/ñ/文字.txt",
];

fn keys(objects: &Objects) -> Vec<&str> {
    objects.keys().collect()
}

#[test]
fn listings_of_every_store_give_the_same_samples() {
    let contents: Vec<&str> = NAMES.iter().map(|name| if *name == "empty" { "" } else { *name }).collect();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start();
    for folder in [dir.path().join("in"), server.folder().join("in")] {
        write(&folder, NAMES.iter().zip(&contents));
    }
    let memory = in_memory(&[]);
    block_on(async {
        for (name, content) in NAMES.iter().zip(&contents) {
            memory.write(&format!("in/{name}"), *content).await.unwrap();
        }
    });
    let local = Bucket::open(&format!("file://{}/in", dir.path().display())).unwrap();
    for bucket in [memory.below("in").unwrap(), local, server.bucket("in")] {
        let objects = Objects::options().list_blocking(&bucket).unwrap();
        assert_eq!(keys(&objects), NAMES, "{bucket:?}");
        let sizes: Vec<Option<usize>> = (0..objects.len()).map(|index| objects.size_bytes(index)).collect();
        assert_eq!(sizes, contents.iter().map(|content| Some(content.len())).collect::<Vec<_>>());
        assert_eq!(texts(&all(&objects).unwrap()), contents);
        assert_eq!(objects.file(3).unwrap(), bucket.url(NAMES[3]));
        // The same by their keys, and the sizes once they are asked for.
        let listed = Objects::from_manifest(&bucket, &format!("{}\r\n\n", NAMES.join("\n"))).unwrap();
        assert_eq!((listed.size_bytes(3), texts(&all(&listed).unwrap())), (None, contents.clone()));
        let listed = block_on(listed.stat()).unwrap();
        assert_eq!(listed.size_bytes(3), Some(NAMES[3].len()));
    }
}

#[test]
fn more_objects_than_a_page_are_all_there_and_no_size_is_asked_for() {
    const COUNT: usize = 2345;
    let server = Server::start();
    write(&server.folder(), (0..COUNT).map(|number| (format!("many/{number:05}.txt"), format!("{number}"))));
    write(&server.folder(), [("many-more/1.txt", "not below the prefix")]);
    let objects = Objects::options().list_blocking(&server.bucket("many")).unwrap();
    assert_eq!((objects.len(), server.asked().len()), (COUNT, 3));
    assert!(keys(&objects).iter().enumerate().all(|(number, key)| *key == format!("{number:05}.txt")));
    let some = objects.subset([0, 999, 1000, 1001, 2344]).unwrap();
    assert_eq!(texts(&all(&some).unwrap()), ["0", "999", "1000", "1001", "2344"]);
    assert!(server.asked().iter().all(|asked| asked.is_get()));
}

#[test]
fn folders_are_classes_in_the_order_of_their_names() {
    let bucket = in_memory(&[
        "b-side/1.jpg",
        "b/2.jpg",
        "b/1.JPG",
        "b/more/0.jpg",
        "a/9.jpg",
        "a/notes.txt",
        "a/.hidden.jpg",
        "top.jpg",
        "Z/1.jpeg",
    ]);
    let objects = Objects::options().extensions(["jpg", "jpeg"]).list_blocking(&bucket).unwrap();
    assert_eq!(
        (objects.num_passed_over(), objects.passed_over()),
        (2, &["a/.hidden.jpg".to_owned(), "a/notes.txt".to_owned()][..])
    );
    let labelled = objects.by_folder().unwrap();
    // `b` before `b-side`, as a walk through folders has it, though a slash comes after a hyphen.
    assert_eq!(labelled.classes(), ["Z", "a", "b", "b-side"]);
    assert_eq!(labelled.labels(), [0, 1, 2, 2, 2, 3]);
    let keys: Vec<&str> = labelled.objects().keys().collect();
    assert_eq!(keys, ["Z/1.jpeg", "a/9.jpg", "b/1.JPG", "b/2.jpg", "b/more/0.jpg", "b-side/1.jpg"]);
    assert_eq!(labelled.objects().num_passed_over(), 3);
    let samples = all(&labelled).unwrap();
    assert!(samples.iter().zip(&keys).all(|((blob, _), key)| blob.text().unwrap() == *key));
    assert_eq!((samples[3].1, labelled.size_bytes(0), labelled.file(0)), (2, Some(12), Some(bucket.url("Z/1.jpeg"))));
    // Through the loader, labels and objects stay together.
    let loader =
        Loader::remote(labelled.clone()).map(|(blob, label)| (blob.len() as u32, label)).shuffle(7).build().unwrap();
    let (lens, labels) = loader.epoch(0).next().unwrap().unwrap().into_inner();
    let mut pairs: Vec<(u32, u32)> = lens.into_iter().zip(labels).collect();
    let mut expected: Vec<(u32, u32)> =
        keys.iter().zip(labelled.labels()).map(|(key, label)| (key.len() as u32, *label)).collect();
    pairs.sort_unstable();
    expected.sort_unstable();
    assert_eq!(pairs, expected);
}

#[test]
#[cfg(feature = "image")]
fn a_bucket_and_a_folder_with_the_same_files_are_the_same_samples() {
    use procession::Sequence;
    use procession::source::ImageFolder;

    let dir = tempfile::tempdir().unwrap();
    let names =
        ["b-side/1.jpg", "b/2.jpg", "b/1.jpg", "b/1/x.jpg", "b/1-0.jpg", "a/ü.jpg", "a/z.jpg", "B/1.png", "x.jpg"];
    write(dir.path(), names.iter().map(|name| (name, name)));
    let folder = ImageFolder::open(dir.path()).unwrap();
    let objects = LabelledObjects::open(&format!("file://{}", dir.path().display())).unwrap();
    assert_eq!((objects.classes(), objects.labels()), (folder.classes(), folder.labels()));
    let (here, there): (Vec<_>, Vec<_>) =
        ((0..folder.len()).map(|index| folder.get(index).unwrap()).collect(), all(&objects).unwrap());
    assert!(here.iter().zip(&there).all(|(here, there)| (here.0.bytes(), here.1) == (there.0.bytes(), there.1)));
}

#[test]
fn what_stands_for_a_folder_is_no_sample_and_what_is_empty_is_one() {
    let server = Server::start();
    write(&server.folder(), [("data/a/1", "1"), ("data/b", ""), ("data/c/d/1", "1")]);
    let bucket = in_memory(&["data/a/1", "data/c/d/1"]);
    block_on(async {
        for key in ["data", "data/a", "data/b", "data/c", "data/c/d"] {
            bucket.write(key, "").await.unwrap();
        }
    });
    for (bucket, passed_over) in [(bucket.below("data").unwrap(), 3), (server.bucket("data"), 0)] {
        let objects = Objects::options().list_blocking(&bucket).unwrap();
        assert_eq!(keys(&objects), ["a/1", "b", "c/d/1"]);
        assert_eq!((objects.num_passed_over(), objects.size_bytes(1)), (passed_over, Some(0)));
        assert_eq!(all(&objects).unwrap()[1].bytes(), b"");
    }
}

#[test]
fn manifests_have_numbers_or_names() {
    let bucket = in_memory(&["cats/1.jpg", "dogs/1,2.jpg"]);
    let of = |text: &str| LabelledObjects::from_manifest(&bucket, text);
    let numbers = of("key,label\ncats/1.jpg,7\r\n\ndogs/1,2.jpg, 3\n").unwrap();
    assert_eq!((numbers.labels(), numbers.classes().len()), (&[7, 3][..], 0));
    let samples = all(&numbers).unwrap();
    assert_eq!((samples[1].0.text().unwrap(), samples[1].1), ("dogs/1,2.jpg", 3));
    let names = of("dogs/1,2.jpg,dog\ncats/1.jpg,cat\ncats/1.jpg,dog").unwrap();
    assert_eq!((names.labels(), names.classes()), (&[1, 0, 1][..], &["cat".to_owned(), "dog".to_owned()][..]));
    let sized = names.stat_blocking().unwrap();
    assert_eq!(sized.size_bytes(0), Some(12 + 4));
    let pairs = LabelledObjects::from_pairs(&bucket, [("cats/1.jpg", 5)]).unwrap();
    assert_eq!(all(&pairs).unwrap()[0].1, 5);
    for (text, kind, expected) in [
        ("", ErrorKind::Format, "a manifest without lines, expected keys with labels"),
        ("key,label\n", ErrorKind::Format, "a manifest without lines, expected keys with labels"),
        ("a,1\nb\n", ErrorKind::Format, "line 2: expected a key, a comma and a label"),
        (",1", ErrorKind::Format, "line 1: expected a key, a comma and a label"),
        (
            "path,class\na,1\n",
            ErrorKind::Format,
            "label `class` among labels that are numbers, expected labels of one kind",
        ),
        ("a, ", ErrorKind::Format, "line 1: expected a key, a comma and a label"),
        (
            "a//b,1",
            ErrorKind::Argument,
            "no key that a store can have, expected parts between slashes that are not empty, `.` or `..`",
        ),
    ] {
        let error = of(text).unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, expected));
    }
}

#[test]
fn classes_may_be_given_and_objects_have_a_limit() {
    let bucket = in_memory(&["cats/1", "dogs/12"]);
    let objects = Objects::options().list_blocking(&bucket).unwrap();
    let classes = ["ants", "cats", "dogs"].map(str::to_owned);
    assert_eq!(objects.clone().by_folder_of(&classes).unwrap().labels(), [1, 2]);
    let error = objects.clone().by_folder_of(&classes[..2]).unwrap_err();
    assert_eq!(error.message(), "folder `dogs`, expected one of the 2 classes that were given");
    let unknown = Objects::from_keys(&bucket, ["cats/1", "dogs/12"]).unwrap();
    for objects in [objects, unknown] {
        let limited = objects.limit_bytes(6);
        assert_eq!(block_on(limited.get(0)).unwrap().len(), 6);
        let error = block_on(limited.get(1)).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Limit, "object of 7 bytes, the limit is 6"));
        assert_eq!(error.file(), Some(&*bucket.url("dogs/12")));
    }
}

#[test]
fn what_is_not_there_is_an_error_with_its_name() {
    let server = Server::start();
    write(&server.folder(), [("notes/.hidden", "x")]);
    for bucket in [server.bucket("nothing"), in_memory(&["other/x"]).below("nothing").unwrap()] {
        let error = Objects::options().list_blocking(&bucket).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Format, Some(&*bucket.url(""))));
        assert_eq!(error.message(), "no object in the listing, and 0 passed over");
        let missing = Objects::from_keys(&bucket, ["a b/%.txt"]).unwrap();
        for error in [all(&missing).unwrap_err(), block_on(missing.clone().stat()).unwrap_err()] {
            assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "no such object"));
            assert_eq!(error.file(), Some(&*bucket.url("a b/%.txt")));
        }
    }
    let error = Objects::options().list_blocking(&server.bucket("notes")).unwrap_err();
    assert_eq!(error.message(), "no object in the listing, and 1 passed over, such as `.hidden`");
    let flat = Objects::options().list_blocking(&in_memory(&["x", "y"])).unwrap();
    let error = flat.by_folder().unwrap_err();
    assert_eq!(error.message(), "no object in a class's folder in the listing, and 2 passed over, such as `x`");
    // A bucket that is not there.
    let error = Objects::options().list_blocking(&server.options().store_retries(0).open("s3://no-bucket/x").unwrap());
    assert_eq!(error.unwrap_err().file().unwrap().to_str(), Some("s3://no-bucket/x"));
}
