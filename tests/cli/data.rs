//! `inspect`, `verify`, `bench` and `pack`: what a data set holds, whether all of it loads and how fast, and a folder as
//! shards.

use std::fs;
use std::path::Path;

use procession::image::DecodeOptions;
use procession::source::{Blob, ImageFolder, NpzWriter, ShardWriter, TarShards};
use procession::{Sampler, Sequence, Shuffle};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{idx, small_data};
use crate::{json_lines, run, stdout};

fn input(name: &str) -> String {
    format!("{}/tests/images/inputs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Files in a folder, each a copy of an image of the tests, or of nothing known.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, image) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match *image {
            "" => fs::write(path, "text").unwrap(),
            image => drop(fs::copy(input(image), path).unwrap()),
        }
    }
    dir
}

fn pets() -> TempDir {
    folder(&[
        ("cat/1.jpg", "jpeg_17x23.jpg"),
        ("cat/2.png", "png_rgb_8.png"),
        ("cat/2.txt", ""),
        ("cat/notes.txt", ""),
        ("dog/1.JPEG", "jpeg_420_q75.jpg"),
        ("dog/1.png", "png_grey_8.png"),
        ("dog/1.BOX.json", ""),
        ("dog/more/a.b.jpe", "jpeg_grey.jpg"),
        ("dog/more/a_b.pgm", "pgm.pgm"),
        ("dog/.hidden", ""),
        ("README", ""),
        ("yak/nothing.txt", ""),
    ])
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn inspect(path: &Path, more: &[&str]) -> Value {
    let args = [&["inspect", text(path), "--json"], more].concat();
    let mut lines = json_lines(&stdout(&args));
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

#[test]
fn inspect_tells_what_a_folder_holds() {
    let dir = pets();
    let found = inspect(dir.path(), &[]);
    assert_eq!(
        (&found["kind"], &found["classes"]),
        (&json!("folder of images by class"), &json!(["cat", "dog", "yak"]))
    );
    let part = &found["parts"][0];
    assert_eq!((&part["samples"], &part["class_counts"]), (&json!(6), &json!([2, 4, 0])));
    assert_eq!(part["fields"][1], json!({"name": "label", "type": "u32"}));
    assert_eq!(part["images"]["formats"], json!({"JPEG": 3, "PNG": 2, "PNM": 1}));
    assert_eq!(part["images"]["width"]["min"], 17);
    let passed = &found["passed_over"];
    let reasons = json!({"hidden": 1, "in no class's folder": 1, "not a known kind of file": 4});
    assert_eq!((&passed["count"], &passed["by_reason"]), (&json!(6), &reasons));
    assert_eq!(passed["files"].as_array().unwrap().len(), 5);
    assert_eq!(inspect(dir.path(), &["--all"])["passed_over"]["files"].as_array().unwrap().len(), 6);

    let shown = stdout(&["inspect", text(dir.path())]);
    for line in [
        "all, 6 samples",
        "  images in 6 files: 3 JPEG, 2 PNG, 1 PNM",
        "  3 classes",
        &format!("    cat  2  {}", "\u{2588}".repeat(20)),
        &format!("    dog  4  {}", "\u{2588}".repeat(40)),
        "    yak  0",
        "passed over, 6 files",
        "  4  not a known kind of file",
        "  and 1 more; --all lists them",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line:?} in {shown}");
    }
    assert!(!stdout(&["inspect", text(dir.path()), "--all"]).contains("more;"));
}

#[test]
fn inspect_cuts_a_long_list_of_classes() {
    let dir = tempfile::tempdir().unwrap();
    let rows = (0..40).flat_map(|class| (0..=class % 30).map(move |image| format!("{image}.jpg,class{class:02}\n")));
    let list = dir.path().join("list.csv");
    fs::write(&list, rows.collect::<String>()).unwrap();
    let shown = stdout(&["inspect", text(&list)]);
    let names: Vec<&str> = shown.lines().filter_map(|line| line.trim().strip_prefix("class")).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!((names.len(), &names), (24, &sorted));
    assert!(shown.contains("    class29  30  ") && !shown.contains("class00"), "{shown}");
    assert!(shown.contains("    and 16 more classes of 1 to 8; --all lists them"), "{shown}");
    assert!(
        shown.contains("    100 files cannot be read, such as: ") && shown.contains("none that can be read"),
        "{shown}"
    );
    let all = stdout(&["inspect", text(&list), "--all"]);
    assert!(all.contains("    class00   1  \u{2588}") && !all.contains("more classes"), "{all}");
    assert_eq!(inspect(&list, &[])["parts"][0]["class_counts"].as_array().unwrap().len(), 40);
}

#[test]
fn inspect_opens_every_kind() {
    let data = small_data();
    let found = inspect(data.path(), &[]);
    let parts: Vec<_> =
        found["parts"].as_array().unwrap().iter().map(|part| (&part["name"], &part["samples"])).collect();
    assert_eq!(parts, [(&json!("train"), &json!(300)), (&json!("test"), &json!(50))]);
    assert_eq!(found["parts"][1]["class_counts"].as_array().unwrap().len(), 10);

    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("images"), idx(&[2, 3, 4], &[7; 24])).unwrap();
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend(format!("{:<117}\n", "{'descr': '<i2', 'fortran_order': False, 'shape': (3, 2), }").bytes());
    npy.extend([0; 12]);
    fs::write(path("a.npy"), npy).unwrap();
    let mut npz = NpzWriter::create(path("b.npz")).unwrap();
    npz.add("x", &ndarray::arr2(&[[1.0_f32, 2.0], [3.0, 4.0]])).unwrap();
    npz.finish().unwrap();
    fs::create_dir(path("flat")).unwrap();
    fs::copy(input("png_rgb_8.png"), path("flat/1.png")).unwrap();
    for (name, kind, samples, fields) in [
        ("images", "IDX", 2, json!([{"name": "sample", "type": "u8 [3, 4]"}])),
        ("a.npy", "NumPy array", 3, json!([{"name": "sample", "type": "i16 [2]"}])),
        ("b.npz", "NumPy archive", 2, json!([{"name": "sample", "type": "f32 [2]"}])),
        ("flat", "folder of images without classes", 1, json!([{"name": "image", "type": "image file"}])),
    ] {
        let found = inspect(&path(name), &[]);
        assert_eq!((&found["kind"], &found["parts"][0]["samples"]), (&json!(kind), &json!(samples)), "{name}");
        assert_eq!(found["parts"][0]["fields"], fields, "{name}");
    }
    let arrow = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/arrow/saved");
    let found = inspect(&arrow, &[]);
    assert_eq!(found["kind"], "Arrow data set in splits");
    assert!(found["parts"][0]["class_counts"].is_array(), "{found}");
}

#[test]
fn inspect_counts_the_labels_of_shards() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(dir.path().join("s-%d.tar")).unwrap();
    let image = fs::read(input("png_rgb_8.png")).unwrap();
    for (key, class) in [("a", "2"), ("b", "0"), ("c", "2\n"), ("d", "x")] {
        writer.append(key, &[("png", &image), ("cls", class.as_bytes())]).unwrap();
    }
    writer.append("e", &[("png", &image)]).unwrap();
    writer.finish().unwrap();
    let found = inspect(dir.path(), &[]);
    let part = &found["parts"][0];
    assert_eq!((&found["kind"], &part["class_counts"]), (&json!("tar, 1 shard"), &json!([1, 0, 2])));
    assert_eq!(part["without_label"]["samples"], 2);
    assert!(part["without_label"]["first"].as_str().unwrap().contains("s-0.tar/d.cls"), "{part}");
    fs::write(dir.path().join("classes.txt"), "ant\nbee\ncat\ndog\n").unwrap();
    let shown = stdout(&["inspect", text(dir.path())]);
    for line in
        ["    ant  1  ", "    cat  2  ", "    dog  0", "  2 samples without a label, such as: ", "  cls  in 4 samples"]
    {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
}

#[test]
fn what_is_no_data_set_is_told_in_one_line() {
    let dir = folder(&[("text/a.txt", ""), ("notes.md", ""), ("broken/a/1.png", "")]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    let path = |name: &str| text(&dir.path().join(name)).to_owned();
    let sheet = path("sheet.png");
    let (notes, empty, broken) = (path("notes.md"), path("empty"), path("broken"));
    fs::write(path("x.npy"), b"\x93NUMPY").unwrap();
    fs::write(path("x.csv"), "a,b,c\n1,2\n").unwrap();
    fs::write(path("x"), idx(&[3], &[1, 2, 3])).unwrap();
    let (npy, csv, labels, missing) = (path("x.npy"), path("x.csv"), path("x"), path("missing"));
    let text_only = path("text");
    let (out, no_way) = (path("out"), path("no/way.png"));
    let cases: [(&[&str], i32, &str); 15] = [
        (&["inspect", &notes], 1, "no data set of a known kind, expected a folder"),
        (&["inspect", &missing], 1, "missing"),
        (&["inspect", &empty], 1, "no image in the folder"),
        (&["inspect", &text_only], 1, "such as "),
        (&["inspect", &npy], 1, "x.npy"),
        (&["inspect", &csv], 1, "row from line 2 on has 2 fields, expected 3"),
        (&["inspect", &labels, "--sheet", &sheet], 1, "no images to draw in the data set"),
        (&["inspect", &broken, "--sheet", &sheet], 1, "1.png"),
        (&["inspect", "data/fashion-mnist-sample", "--sheet", &no_way], 1, "way.png"),
        (&["inspect", &labels, "--count", "3"], 2, "--sheet"),
        (&["inspect", &labels, "--sheet", &sheet, "--count", "0"], 2, "--count"),
        (&["inspect", &labels, "--sheet", &sheet, "--size", "513"], 2, "--size"),
        (&["pack", &missing, &out], 1, "missing"),
        (&["pack", &text_only, &out], 1, "no image in the folder"),
        (&["pack", &broken, &out, "--max-samples", "0"], 1, "shards of 0 samples"),
    ];
    for (args, code, what) in cases {
        let (actual, _, stderr) = run(args);
        assert_eq!((actual, stderr.lines().count()), (code, 1), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(what), "{args:?}: {stderr}");
    }
    assert!(!Path::new(&sheet).exists());
}

#[test]
fn a_sheet_shows_a_batch() {
    let (pets, small) = (pets(), small_data());
    let out = tempfile::tempdir().unwrap();
    let path = |name: &str| out.path().join(name);
    let draw = |data: &TempDir, name: &str, more: &[&str]| -> Vec<u8> {
        let (file, path) = (path(name), text(data.path()));
        let args = [&["--sheet", text(&file)], more].concat();
        let sheet = &inspect(Path::new(path), &args)["sheet"];
        let image = DecodeOptions::new().decode(&Blob::read(&file).unwrap()).unwrap();
        let extents = json!([image.height(), image.width()]);
        assert_eq!(json!([sheet["height"], sheet["width"]]), extents);
        fs::read(file).unwrap()
    };
    // Six images in four columns and two rows, each of 20 pixels and 4 of a gap, with two lines of ten pixels for what
    // has more than two letters, and one for a digit.
    let first = draw(&pets, "a.png", &["--size", "20"]);
    let extents = |name: &str| DecodeOptions::new().info(&Blob::read(path(name)).unwrap()).unwrap();
    assert_eq!((extents("a.png").height, extents("a.png").width), (4 + 2 * (20 + 4 + 20 + 4), 4 + 4 * 24));
    assert_eq!(draw(&pets, "b.png", &["--size", "20"]), first, "the same seed, the same file");
    assert_ne!(draw(&pets, "b.png", &["--size", "20", "--force", "--seed", "1"]), first);
    assert_ne!(draw(&pets, "b.png", &["--size", "20", "--force", "--plain"]), first);
    // A file that is there stays, and what was found is told.
    let before = fs::read(path("b.png")).unwrap();
    let (code, shown, stderr) = run(&["inspect", text(pets.path()), "--sheet", text(&path("b.png"))]);
    assert!(code == 1 && shown.contains("all, 6 samples") && stderr.contains("--force"), "{shown} {stderr}");
    assert_eq!((fs::read(path("b.png")).unwrap(), stderr.lines().count()), (before, 1));
    let digits = draw(&small, "d.png", &["--count", "8"]);
    assert_eq!((extents("d.png").height, extents("d.png").width), (4 + 2 * (112 + 4 + 10 + 4), 4 + 4 * 116));
    assert_ne!(draw(&small, "d.png", &["--count", "8", "--force", "--plain"]), digits);
    let shown = stdout(&["inspect", text(small.path()), "--sheet", text(&path("e.png"))]);
    assert!(shown.trim_end().ends_with("e.png: 32 images on 932 x 524 pixels"), "{shown}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 4, "and no temporary files");
}

/// Images, labels and other fields of shards, in their order.
type Packed = Vec<(Vec<u8>, u32, Vec<String>)>;

fn packed(path: &Path) -> Packed {
    let shards = TarShards::open(path).unwrap();
    let samples = shards.images_and_labels();
    let fields = |index| shards.get(index).unwrap().extensions().map(str::to_owned).collect();
    (0..shards.len())
        .map(|index| {
            let (image, label) = samples.get(index).unwrap();
            (image.to_vec(), label, fields(index))
        })
        .collect()
}

#[test]
fn shards_hold_what_the_folder_did() {
    let pets = pets();
    let folder = ImageFolder::open(pets.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let shards = out.path().join("new/shards");
    let line = &json_lines(&stdout(&["pack", text(pets.path()), text(&shards), "--json", "--max-samples", "4"]))[0];
    assert_eq!(
        (&line["samples"], &line["classes"], &line["joined"]),
        (&json!(6), &json!(["cat", "dog", "yak"]), &json!(2))
    );
    assert_eq!(line["passed_over"], 4);
    let sizes: Vec<_> = line["shards"].as_array().unwrap().iter().map(|shard| &shard["samples"]).collect();
    assert_eq!(sizes, [4, 2]);
    let images = |packed: Packed| -> Vec<(Vec<u8>, u32)> { packed.into_iter().map(|(i, l, _)| (i, l)).collect() };
    let expected: Vec<(Vec<u8>, u32)> = (0..folder.len())
        .map(|index| folder.get(index).unwrap())
        .map(|(image, label)| (image.to_vec(), label))
        .collect();
    let found = packed(&shards);
    let fields: Vec<String> = found.iter().map(|(_, _, fields)| fields.join(" ")).collect();
    assert_eq!(fields, ["jpg cls", "png cls txt", "jpeg cls box.json", "png cls box.json", "jpg cls", "ppm cls"]);
    assert_eq!(images(found), expected);
    let read = TarShards::open(&shards).unwrap();
    let keys: Vec<&str> = (0..6).map(|index| read.entry(index).key()).collect();
    assert_eq!(keys, ["cat/1", "cat/2", "dog/1", "dog/1_2", "dog/more/a_b", "dog/more/a_b_2"]);
    assert_eq!(fs::read_to_string(shards.join("classes.txt")).unwrap(), "cat\ndog\nyak\n");
    assert_eq!(inspect(&shards, &[])["parts"][0]["class_counts"], json!([2, 4, 0]));

    // What is there stays, unless it is to be replaced, and then all of it is.
    let again = ["pack", text(pets.path()), text(&shards), "--shuffle", "5"];
    let (code, _, stderr) = run(&again);
    assert!(code == 1 && stderr.contains("--force") && stderr.lines().count() == 1, "{stderr}");
    let text_shown = stdout(&[&again[..], &["--force"]].concat());
    assert!(text_shown.contains("6 samples of 3 classes in 1 shard, "), "{text_shown}");
    let order = Shuffle::new(6, 5);
    let shuffled: Vec<_> = (0..6).map(|position| expected[order.index(0, position) as usize].clone()).collect();
    assert_eq!(images(packed(&shards)), shuffled);
    assert_eq!(fs::read_dir(&shards).unwrap().count(), 2);
}

#[test]
fn shards_are_not_mixed_with_others() {
    let pets = pets();
    let out = tempfile::tempdir().unwrap();
    let (train, test) = (out.path().join("train-%03d.tar"), out.path().join("test-%03d.tar"));
    stdout(&["pack", text(pets.path()), text(&train)]);
    stdout(&["pack", text(pets.path()), text(&test), "--max-bytes", "1"]);
    assert!(out.path().join("test-005.tar").exists() && out.path().join("train-000.tar").exists());
    let others = folder(&[("bird/1.png", "png_rgb_8.png")]);
    let (code, _, stderr) = run(&["pack", text(others.path()), text(&out.path().join("more-%d.tar"))]);
    assert!(code == 1 && stderr.contains("classes.txt") && stderr.lines().count() == 1, "{stderr}");
    assert!(!out.path().join("more-0.tar").exists());
    let (code, _, stderr) = run(&["pack", text(pets.path()), text(&pets.path().join("cat/shards"))]);
    assert!(code == 1 && stderr.contains("expected another one"), "{stderr}");
    assert!(!pets.path().join("cat/shards").exists());
    let twice = folder(&[("a/1.png", "png_rgb_8.png"), ("a/1.txt", ""), ("a/1.TXT", "")]);
    let (code, _, stderr) = run(&["pack", text(twice.path()), text(&out.path().join("twice"))]);
    assert!(code == 1 && stderr.contains("the field `txt` twice") && stderr.contains("1.png"), "{stderr}");
}

/// What is in a folder, by name, hidden or not.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn shards_are_replaced_by_whole_ones_only() {
    let pets = pets();
    let out = tempfile::tempdir().unwrap();
    let pack = |folder: &Path, more: &[&str]| {
        run(&[&["pack", text(folder), text(out.path()), "--max-samples", "1"], more].concat())
    };
    // The last sample cannot be packed.
    let refused =
        folder(&[("a/1.png", "png_rgb_8.png"), ("z/2.png", "png_rgb_8.png"), ("z/2.txt", ""), ("z/2.TXT", "")]);
    let (code, _, stderr) = pack(refused.path(), &[]);
    assert!(code == 1 && stderr.contains("the field `txt` twice"), "{stderr}");
    assert_eq!(contents(out.path()), [], "a shard of some samples would pass for one of all");
    assert_eq!(pack(pets.path(), &[]).0, 0);
    let before = contents(out.path());
    assert_eq!(before.len(), 6 + 1);
    assert_eq!(pack(refused.path(), &["--force"]).0, 1);
    assert!(contents(out.path()) == before, "what is there stays until there is something better");
    // What a crash left is in nobody's way.
    fs::create_dir_all(out.path().join(".shard-%06d.tar.tmp/left")).unwrap();
    let one = folder(&[("bird/1.png", "png_rgb_8.png")]);
    let (code, shown, _) = pack(one.path(), &["--force"]);
    assert!(code == 0 && shown.contains("shard-000000.tar  1 sample"), "{shown}");
    let names: Vec<String> = contents(out.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["classes.txt", "shard-000000.tar"]);
    assert_eq!(fs::read_to_string(out.path().join("classes.txt")).unwrap(), "bird\n");
    // A folder is nothing that is replaced.
    fs::create_dir(out.path().join("shard-1.tar")).unwrap();
    let (code, _, stderr) = pack(pets.path(), &["--force"]);
    assert!(code == 1 && stderr.contains("it is no file"), "{stderr}");
    assert!(out.path().join("shard-000000.tar").exists());
}

#[test]
fn every_folder_of_a_split_is_a_part() {
    let image = "png_rgb_8.png";
    let dir = folder(&[
        ("train/cat/1.png", image),
        ("train/dog/1.png", image),
        ("test/cat/1.png", image),
        ("test/dog/1.png", image),
        ("val/cat/1.png", image),
        ("val/dog/1.png", ""),
        ("val/dog/notes.txt", ""),
        ("more/cat/1.png", image),
        ("README", ""),
        (".hidden", ""),
    ]);
    let found = inspect(dir.path(), &[]);
    let names: Vec<_> = found["parts"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["train", "test", "val"]);
    let reasons =
        json!({"hidden": 1, "beside the folders to train and to test with": 2, "not a known kind of file": 1});
    assert_eq!((&found["passed_over"]["count"], &found["passed_over"]["by_reason"]), (&json!(4), &reasons));
    let (code, shown, _) = run(&["verify", text(dir.path())]);
    assert!(code == 1 && shown.contains("val 1: ") && shown.contains("6 samples checked"), "{shown}");
}

#[test]
fn images_to_test_with_may_be_without_labels() {
    let image = "png_rgb_8.png";
    let dir = folder(&[
        ("train/cat/1.png", image),
        ("train/dog/1.png", image),
        ("test/1.png", image),
        ("test/2.png", ""),
        ("test/ids.csv", ""),
    ]);
    let found = inspect(dir.path(), &[]);
    assert_eq!(found["kind"], "folders of images by class, and `test` without labels");
    assert_eq!((&found["classes"], &found["passed_over"]["count"]), (&json!(["cat", "dog"]), &json!(1)));
    let parts = found["parts"].as_array().unwrap();
    let samples: Vec<_> = parts.iter().map(|part| (&part["samples"], part.get("class_counts"))).collect();
    assert_eq!(samples, [(&json!(2), Some(&json!([1, 1]))), (&json!(2), None)]);
    assert_eq!(parts[1]["fields"], json!([{"name": "image", "type": "image file"}]));
    assert!(run(&["verify", text(dir.path())]).1.contains("test 1: "));

    // The other way round there is nothing to learn from.
    let dir = folder(&[("train/1.png", image), ("test/cat/1.png", image)]);
    let (code, _, stderr) = run(&["inspect", text(dir.path())]);
    assert!(code == 1 && stderr.contains("expected folders of classes as in `test`"), "{stderr}");
    let dir = folder(&[("train/cat/1.png", image), ("test/notes.txt", "")]);
    let (code, _, stderr) = run(&["inspect", text(dir.path())]);
    assert!(code == 1 && stderr.contains("no image in the folder") && stderr.contains("test"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_read_is_told() {
    use std::os::unix::fs::PermissionsExt;

    let dir = folder(&[("train/cat/1.png", "png_rgb_8.png"), ("test/cat/1.png", "png_rgb_8.png")]);
    let locked = dir.path().join("test");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    // Some may read everything.
    if fs::read_dir(&locked).is_err() {
        let (code, _, stderr) = run(&["inspect", text(dir.path())]);
        assert!(code == 1 && stderr.contains("denied") && stderr.contains("test"), "{stderr}");
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn text_that_begins_as_an_image_is_text() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(dir.path().join("s-%d.tar")).unwrap();
    let image = fs::read(input("png_rgb_8.png")).unwrap();
    let fields = |text: &'static [u8]| [("txt", text), ("bin", text), ("json", b"1")];
    writer.append("0001", &fields(b"BMW on a street")).unwrap();
    writer.append("0002", &fields(b"P1 is the first of six")).unwrap();
    writer.append("0003", &[("png", &image[..]), ("caption", b"GIF89")]).unwrap();
    writer.append("0004", &[("png", &image[..100])]).unwrap();
    writer.finish().unwrap();
    let (code, shown, _) = run(&["verify", text(dir.path())]);
    assert!(code == 1 && shown.contains("all 3: ") && shown.contains(", 1 failed"), "{shown}");
}

#[test]
fn what_a_flat_folder_passes_over_counts() {
    let dir = folder(&[("1.png", "png_rgb_8.png"), ("sub/2.png", "png_rgb_8.png"), ("sub/notes.xyz", "")]);
    fs::remove_dir_all(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("notes.xyz"), "text").unwrap();
    assert_eq!(inspect(dir.path(), &[])["passed_over"]["by_reason"], json!({"not a known kind of file": 1}));
    assert!(stdout(&["verify", text(dir.path())]).contains(", 1 files passed over"));
    let (code, shown, stderr) = run(&["verify", text(dir.path()), "--strict"]);
    assert!(code == 1 && shown.contains("notes.xyz") && stderr.contains("1 files were passed over"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn names_of_files_do_nothing_to_the_terminal() {
    let dir = folder(&[("cat/a\u{1b}[2J.png", ""), ("cat/b\u{7}.txt", ""), ("cat/c.png", "png_rgb_8.png")]);
    let (code, shown, _) = run(&["verify", text(dir.path()), "--strict"]);
    assert_eq!(code, 1);
    assert!(shown.contains("a\\u{1b}[2J.png") && shown.contains("b\\u{7}.txt"), "{shown}");
    let (_, _, stderr) = run(&["inspect", &format!("{}/cat/a\u{1b}[2J.png", text(dir.path()))]);
    assert!(stderr.contains("a\\u{1b}[2J.png"), "{stderr}");
    assert!(![shown, stderr].concat().contains(['\u{1b}', '\u{7}']));
}

#[test]
fn classes_of_splits_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let saved = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/arrow/saved");
    fs::copy(saved.join("dataset_dict.json"), dir.path().join("dataset_dict.json")).unwrap();
    for split in ["train", "test"] {
        fs::create_dir(dir.path().join(split)).unwrap();
        for entry in fs::read_dir(saved.join(split)).unwrap() {
            let entry = entry.unwrap();
            let mut bytes = fs::read(entry.path()).unwrap();
            if split == "test" {
                // Names of as many letters, wherever they are written.
                while let Some(at) = bytes.windows(6).position(|name| name == b"\"bird\"") {
                    bytes[at..at + 6].copy_from_slice(b"\"fish\"");
                }
            }
            fs::write(dir.path().join(split).join(entry.file_name()), bytes).unwrap();
        }
    }
    let (code, _, stderr) = run(&["inspect", text(dir.path())]);
    assert!(code == 1 && stderr.contains("\"fish\"") && stderr.contains("as in `"), "{stderr}");
}

#[test]
fn folders_to_train_and_to_test_with_are_two_parts() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"P5 1 1 255 x").unwrap();
    };
    ["train/cat/a.pgm", "train/dog/a.pgm", "train/dog/b.pgm", "val/cat/a.pgm", "val/dog/a.pgm"]
        .into_iter()
        .for_each(put);
    let found = inspect(dir.path(), &[]);
    assert_eq!(found["classes"], json!(["cat", "dog"]));
    let parts = found["parts"].as_array().unwrap();
    let parts: Vec<_> = parts.iter().map(|part| (&part["name"], &part["class_counts"])).collect();
    assert_eq!(parts, [(&json!("train"), &json!([1, 2])), (&json!("val"), &json!([1, 1]))]);
    // Other classes to test with would be numbered in another way.
    put("val/ant/a.pgm");
    let (code, _, stderr) = run(&["inspect", text(dir.path())]);
    assert!(code == 1 && stderr.contains("as in `train`"), "{stderr}");
    // Two classes that happen to have these names.
    let classes = tempfile::tempdir().unwrap();
    for name in ["train", "test"] {
        fs::create_dir_all(classes.path().join(name)).unwrap();
        fs::write(classes.path().join(name).join("a.pgm"), b"P5 1 1 255 x").unwrap();
    }
    assert_eq!(inspect(classes.path(), &[])["classes"], json!(["test", "train"]));
}

#[test]
fn tables_are_opened_and_every_column_is_checked() {
    let path = |name: &str| format!("{}/tests/formats/{name}", env!("CARGO_MANIFEST_DIR"));
    for name in ["parquet/snappy-v1.parquet", "parquet/zstd-v1.parquet", "arrow/plain.arrow"] {
        let counts = json_lines(&stdout(&["verify", &path(name), "--json"])).pop().unwrap();
        assert!(counts["samples"].as_u64().unwrap() > 0 && counts["failed"] == 0, "{name}: {counts}");
    }
    // A string that is none, in a column that is neither image nor label.
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(path("arrow/plain.arrow")).unwrap();
    let needle = "\u{fc}".as_bytes();
    let places = bytes.windows(2).enumerate().filter(|(_, pair)| *pair == needle).map(|(at, _)| at).collect::<Vec<_>>();
    assert!(!places.is_empty(), "the reference has a letter of two bytes");
    places.iter().for_each(|&at| bytes[at + 1] = b'x');
    let broken = dir.path().join("broken.arrow");
    fs::write(&broken, bytes).unwrap();
    let (code, out, _) = run(&["verify", text(&broken)]);
    assert!(code == 1 && out.contains("column `text` of batch 0 is damaged"), "{out}");
}

/// Tokens as a file has them.
fn tokens(tokens: impl IntoIterator<Item = u16>) -> Vec<u8> {
    tokens.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// A table with numbers, text, truth values and values that are missing. In row 7, line 9, the width is what is given.
fn table(width: &str) -> String {
    let row = |row: usize| match row {
        3 => ",,,\n".to_owned(),
        7 => format!("7,{width},g,true\n"),
        _ => format!("{row},{}.5,\"{row}, quoted\",{}\n", row * 2, row % 2 == 1),
    };
    (0..20).map(row).fold("id,width,name,odd\n".to_owned(), |text, row| text + &row)
}

#[test]
fn inspect_opens_tables_text_and_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let typed = json!([
        {"name": "id", "type": "i64"},
        {"name": "width", "type": "f64"},
        {"name": "name", "type": "text"},
        {"name": "odd", "type": "bool"},
    ]);
    let line = json!([{"name": "line", "type": "text"}]);
    let unnamed = json!([{"name": "0", "type": "i64"}, {"name": "1", "type": "f64"}]);
    for (name, text, kind, samples, fields) in [
        ("a.csv", &*table("1e3"), "CSV table", 20, &typed),
        ("wrong.csv", &table("wide"), "CSV table", 20, &typed),
        (
            "a.tsv",
            "x\ty\na,b\t1\n",
            "TSV table",
            1,
            &json!([{"name": "x", "type": "text"}, {"name": "y", "type": "i64"}]),
        ),
        ("unnamed.csv", "1,2.5\n3,4\n", "CSV table without names of columns", 2, &unnamed),
        (
            "two.csv",
            "name,label\nann,1\n",
            "CSV table",
            1,
            &json!([{"name": "name", "type": "text"}, {"name": "label", "type": "i64"}]),
        ),
        ("a.txt", "to be\n\nor not", "lines of text", 3, &line),
        ("a.jsonl", "{\"a\": 1}\n{\"a\": 2}\n", "lines of text", 2, &line),
        ("a.json", "{}\n", "lines of text", 1, &line),
    ] {
        fs::write(path(name), text).unwrap();
        let found = inspect(&path(name), &[]);
        assert_eq!((&found["kind"], &found["parts"][0]["samples"]), (&json!(kind), &json!(samples)), "{name}");
        assert_eq!(&found["parts"][0]["fields"], fields, "{name}");
    }
    for list in ["path,label\nno-extension,1\n", "a.jpg,cat\nb.jpg,dog\n"] {
        fs::write(path("list.csv"), list).unwrap();
        assert_eq!(inspect(&path("list.csv"), &[])["kind"], "list of images");
    }

    fs::write(path("train.bin"), tokens((0..4000).map(|at| 36_001 + (at + 1000) % 4000))).unwrap();
    let found = inspect(&path("train.bin"), &[]);
    let part = &found["parts"][0];
    assert_eq!((&found["kind"], &part["samples"]), (&json!("tokens of u16 in windows of 1,024"), &json!(3)));
    let facts = json!({"tokens": 4000, "smallest": 36_001, "largest": 40_000, "window": 1024, "left_over": 927});
    assert_eq!((&part["tokens"], &part["fields"][1]["type"]), (&facts, &json!("u32 [1024]")));
    let found = inspect(&path("train.bin"), &["--dtype", "u32", "--window", "9"]);
    // Of two tokens of 16 bits the first has the lower bits.
    let (smallest, largest) = (36_002_u32 * 65_536 + 36_001, 40_000_u32 * 65_536 + 39_999);
    let facts = json!({"tokens": 2000, "smallest": smallest, "largest": largest, "window": 9, "left_over": 1});
    assert_eq!((&found["parts"][0]["tokens"], &found["parts"][0]["samples"]), (&facts, &json!(222)));
    let shown = stdout(&["inspect", text(&path("train.bin"))]);
    let line = "  4,000 tokens with ids from 36,001 to 40,000; 927 at the end in no window";
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
    fs::write(path("none.bin"), "").unwrap();
    let facts = json!({"tokens": 0, "window": 1024, "left_over": 0});
    assert_eq!(inspect(&path("none.bin"), &[])["parts"][0]["tokens"], facts);
}

#[test]
fn files_named_as_those_of_cifar_are_cifar() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let kind = |name: &str, more: &[&str]| inspect(&path(name), more)["kind"].as_str().unwrap().to_owned();
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        fs::write(path(&format!("{name}.bin")), [1; 3073]).unwrap();
    }
    assert_eq!(kind("data_batch_3.bin", &[]), "CIFAR-10, all of its folder");
    assert_eq!(kind("test_batch.bin", &[]), "CIFAR-10, all of its folder");
    assert_eq!(kind(".", &[]), "CIFAR-10");
    fs::write(path("train.bin"), [1; 2 * 3074]).unwrap();
    assert_eq!(kind("train.bin", &[]), "tokens of u16 in windows of 1,024", "there is no test.bin");
    fs::write(path("test.bin"), [1; 3074]).unwrap();
    assert_eq!(kind("train.bin", &[]), "CIFAR-100, all of its folder");
    // Whoever tells how tokens are read has some.
    assert_eq!(kind("train.bin", &["--window", "8"]), "tokens of u16 in windows of 8");
    fs::write(path("images.bin"), idx(&[2, 3, 4], &[7; 24])).unwrap();
    assert_eq!(kind("images.bin", &[]), "IDX");
}

/// The samples that fail, and how what is said of each begins.
type Failures<'a> = &'a [(u64, &'a str)];

#[test]
fn verify_shows_archives_and_lists_that_lost_something() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(dir.path().join("s-%d.tar")).unwrap();
    (0..3).for_each(|key| writer.append(&key.to_string(), &[("txt", b"text")]).unwrap());
    writer.finish().unwrap();
    let whole = fs::read(dir.path().join("s-0.tar")).unwrap();
    let mut overwritten = whole.clone();
    overwritten[1024..1536].fill(0);
    for (name, bytes, expected) in [
        ("cut.tar", &whole[..2048], "no end of a tar archive in its 2048 bytes"),
        ("joined.tar", &[&whole[..], &whole].concat(), "behind the end of the archive at byte 3072"),
        ("overwritten.tar", &overwritten, "behind the end of the archive at byte 1024"),
        ("list.csv", b"a.jpg,1\nb.jpg,1O\n", "line 2: label `1O` is no number"),
        ("open.csv", b"a.jpg,1\n\"b.jpg,1\nc.jpg,2\n", "quote of the field from line 2 on is not closed"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let (code, _, stderr) = run(&["verify", text(&path)]);
        assert!(code == 1 && stderr.contains(expected) && stderr.contains(name), "{name}: {stderr}");
    }
    assert_eq!(json_lines(&stdout(&["verify", text(&dir.path().join("s-0.tar")), "--json"]))[0]["samples"], 3);
}

#[test]
fn verify_reads_every_field_line_and_token() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        text(&path).to_owned()
    };
    let good = [
        write("good.csv", table("-2").as_bytes()),
        write("good.txt", "caf\u{e9}\n\nbar".as_bytes()),
        write("good.bin", &tokens(0..3000)),
    ];
    for path in &good {
        let counts = json_lines(&stdout(&["verify", path, "--json"])).pop().unwrap();
        assert!(counts["samples"].as_u64().unwrap() > 0 && counts["failed"] == 0, "{path}: {counts}");
    }
    let mut latin = b"one\ntwo\nthr\xe9e\nfour\n".to_vec();
    latin.extend(b"\xff");
    let mut name = table("1").into_bytes();
    let at = name.windows(2).position(|pair| pair == b"g,").unwrap();
    name[at] = 0xff;
    let short = write("short.bin", &tokens([1, 2, 3, 9]));
    let (seven, vocab) = (write("seven.bin", &tokens([1, 2, 3, 4, 5, 6, 9])), ["--window", "2", "--vocab-size", "9"]);
    let cases: [(String, &[&str], Failures<'_>); 5] = [
        (
            write("bad.csv", table("wide").as_bytes()),
            &[],
            &[(7, "column \"width\" of the row from line 9 on is \"wide\", expected a number of type f64")],
        ),
        (
            write("name.csv", &name),
            &[],
            &[(7, "column \"name\" of the row from line 9 on is not UTF-8, expected text")],
        ),
        (
            write("latin.txt", &latin),
            &["--workers", "0"],
            &[(2, "byte 11 of the file, in line 3, is not UTF-8"), (4, "byte 19 of the file, in line 5, is not UTF-8")],
        ),
        // The token that makes no window of its own is looked at, too: six are those of the windows and of their targets.
        (seven, &vocab, &[(2, "token 6 is 9, expected one below 9, the size of the vocabulary")]),
        (short, &vocab, &[(0, "token 3 is 9, expected one below 9, the size of the vocabulary")]),
    ];
    for (path, more, failures) in cases {
        let (code, out, stderr) = run(&[&["verify", &path, "--json"], more].concat());
        assert!(code == 1 && stderr.contains(&format!("{} of ", failures.len())), "{path}: {stderr}");
        let lines = json_lines(&out);
        let (counts, found) = lines.split_last().unwrap();
        assert_eq!(counts["failed"], failures.len(), "{path}: {out}");
        for (line, (index, what)) in found.iter().zip(failures) {
            assert_eq!((&line["index"], &line["file"], &line["kind"]), (&json!(index), &json!(path), &json!("format")));
            assert!(line["error"].as_str().unwrap().starts_with(what), "{what:?} in {line}");
        }
    }
    let (odd, unknown) = (write("odd.bin", &[0; 7]), write("a.xyz", b"text"));
    let (text, csv, notes) = (&good[1], &good[0], write("notes.csv", b"a,b\n1,2\n3\n"));
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (&["verify", &odd], 1, &["7 bytes of tokens, expected a multiple of 2 for u16", "odd.bin"]),
        (&["verify", &odd, "--dtype", "u32"], 1, &["7 bytes of tokens, expected a multiple of 4 for u32"]),
        (&["verify", &notes], 1, &["row from line 3 on has 1 fields, expected 2", "notes.csv"]),
        (&["verify", &unknown], 1, &["a.xyz", ".csv", ".tsv", ".txt", ".jsonl", ".json", ".bin", "tar", "Parquet"]),
        (
            &["verify", text, "--window", "8"],
            1,
            &["lines of text, but --dtype, --window and --vocab-size are for files of"],
        ),
        (&["inspect", &odd, "--window", "0"], 2, &["--window"]),
        (&["bench", "--window", "8"], 1, &["--window", "expected the PATH of one"]),
        (&["bench", csv, "--size", "8"], 1, &["no images in these data, but a size for them", "good.csv"]),
    ];
    for (args, code, parts) in cases {
        let (actual, out, stderr) = run(args);
        assert_eq!((actual, &*out, stderr.lines().count()), (code, "", 1), "{args:?}: {stderr}");
        parts.iter().for_each(|part| assert!(stderr.contains(part), "{part:?} in {stderr}"));
    }
}

#[test]
fn bench_measures_whatever_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&dir.path().join(name)).to_owned();
    let formats = |name: &str| format!("{}/tests/formats/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::write(path("a.csv"), table("wide")).unwrap();
    fs::write(path("a.txt"), "to be\nor not\n\nto be").unwrap();
    fs::write(path("a.bin"), tokens(0..5000)).unwrap();
    fs::write(path("labels"), idx(&[5], &[1, 2, 3, 4, 5])).unwrap();
    let mut writer = ShardWriter::create(path("t-%d.tar")).unwrap();
    for key in ["a", "b", "c"] {
        writer.append(key, &[("txt", key.as_bytes()), ("cls", b"1")]).unwrap();
    }
    writer.finish().unwrap();
    for (path, most) in [
        (path("a.csv"), 19),
        (path("a.txt"), 4),
        (path("a.bin"), 4),
        (path("labels"), 5),
        (path("t-0.tar"), 3),
        (formats("f4-little.npy"), 2),
        (formats("f2-big.npy"), 2),
        (formats("fortran.npy"), 2),
        (formats("arrow/plain.arrow"), 11),
        (formats("parquet/zstd-v1.parquet"), 11),
    ] {
        let args = ["bench", &path, "--seconds", "0.2", "--repeats", "1", "--workers", "0,2", "--batch-size", "2"];
        let lines = json_lines(&stdout(&[&args[..], &["--json"]].concat()));
        let [stages, naive, none, two, advice] = &lines[..] else { panic!("{lines:?}") };
        // The first pass ends with its time, if need be after a sample.
        assert!((1..=most).contains(&stages["samples"].as_u64().unwrap()), "{path}: {stages}");
        let sum: f64 = ["read_fraction", "assemble_fraction"].map(|part| stages[part].as_f64().unwrap()).iter().sum();
        assert!((sum - 1.0).abs() < 1e-6 && stages.get("decode_seconds").is_none(), "{stages}");
        for (line, workers) in [(naive, None), (none, Some(0)), (two, Some(2))] {
            assert_eq!(line["workers"].as_u64(), workers, "{line}");
            assert!(line["samples_per_second"].as_f64().unwrap() > 0.0 && line["ratio"].as_f64().unwrap() > 0.0);
        }
        assert_eq!(advice["recommended_workers"], 2, "{advice}");
        assert!(["reading", "assembling"].contains(&advice["bound_by"].as_str().unwrap()), "{advice}");
    }
    let args = ["bench", &path("a.bin"), "--window", "10", "--seconds", "0.2", "--workers", "1"];
    let shown = stdout(&args);
    for part in
        ["499 samples, tokens of u16 in windows of 10, loaded as they are", "reading ", "naive", "recommended: "]
    {
        assert!(shown.contains(part) && !shown.contains("decoding"), "{part:?} in {shown}");
    }
    let shown = stdout(&["bench", &path("a.csv"), "--seconds", "1", "--workers", "0", "--repeats", "1"]);
    assert!(
        shown.contains("first pass over 19 of them") && shown.contains("1 samples failed and are left out"),
        "{shown}"
    );
    let (code, _, stderr) = run(&["bench", &path("a.bin"), "--window", "5000"]);
    assert!(code == 1 && stderr.contains("no samples in these data (tokens of u16 in windows of 5,000)"), "{stderr}");
    let (code, _, stderr) = run(&["bench", &formats("scalar.npy")]);
    assert!(code == 1 && stderr.contains("nothing in these data of a type that is read"), "{stderr}");
}
