//! Folders of images: by class or without classes, all in one or some to train and some to test with.

use std::path::Path;
use std::sync::Arc;

use procession::source::{Files, ImageFolder, PassedOver};
use procession::{Error, ErrorKind, Result, SequenceExt};

use crate::data::{Data, Part, counts, data, field, picture_files};

/// Opens a folder in which there are these names.
pub(crate) fn open(path: &Path, names: &[String]) -> Result<Data> {
    let is_folder = |name: &str| names.iter().any(|found| found == name) && path.join(name).is_dir();
    let tested: Vec<&str> = TEST_FOLDERS.into_iter().filter(|name| is_folder(name)).collect();
    if is_folder("train") && !tested.is_empty() { train_and_test(path, &tested, names) } else { images(path) }
}

/// What folders beside `train` may be called, the first to be tested with first.
const TEST_FOLDERS: [&str; 4] = ["test", "val", "validation", "valid"];

/// The images of a folder.
enum Images {
    Labelled(ImageFolder),
    Flat(Files),
}

impl Images {
    fn open(path: &Path) -> Result<Self> {
        match ImageFolder::open(path) {
            Ok(folder) => Ok(Self::Labelled(folder)),
            // An error in reading it is none about what is in it.
            Err(error) if error.kind() == ErrorKind::Format => {
                Ok(Self::Flat(ImageFolder::open_unlabelled(path).map_err(|flat| what_is_missing(error, flat))?))
            }
            Err(error) => Err(error),
        }
    }
}

/// Of what was found wrong with a folder by class and with one without classes, what helps more: where there is no image at
/// all, that there is none with a class.
fn what_is_missing(labelled: Error, flat: Error) -> Error {
    if flat.kind() == ErrorKind::Format { labelled } else { flat }
}

/// A folder of images by class to train with, and some to test with. If all of them hold images themselves they are classes
/// that happen to have these names. If those to test with alone do, as in a competition, they are without labels.
fn train_and_test(path: &Path, tested: &[&str], names: &[String]) -> Result<Data> {
    let train = Images::open(&path.join("train"))?;
    let tested: Vec<(&str, Images)> =
        tested.iter().map(|&name| Ok((name, Images::open(&path.join(name))?))).collect::<Result<_>>()?;
    let train = match train {
        Images::Labelled(train) => train,
        Images::Flat(_) => {
            let Some((name, _)) = tested.iter().find(|(_, images)| matches!(images, Images::Labelled(_))) else {
                return images(path);
            };
            let message = format!("images in the folder itself, expected folders of classes as in `{name}`");
            return Err(Error::new(ErrorKind::Format, message).with_file(path.join("train")));
        }
    };
    let classes = train.classes().to_vec();
    let mut passed_over = listed(train.passed_over());
    let mut kind = "folders of images by class".to_owned();
    let is_part = |name: &str| name == "train" || tested.iter().any(|(tested, _)| *tested == name);
    let mut others: Vec<&String> = names.iter().filter(|name| !is_part(name)).collect();
    others.sort();
    for name in others {
        let reason = if name.starts_with('.') { "hidden" } else { "beside the folders to train and to test with" };
        passed_over.push((path.join(name).display().to_string(), reason.to_owned()));
    }
    let mut parts = vec![labelled("train", train)];
    for (name, images) in tested {
        match images {
            Images::Labelled(folder) if folder.classes() != classes => {
                let message = format!("classes {:?}, expected {classes:?} as in `train`", folder.classes());
                return Err(Error::new(ErrorKind::Format, message).with_file(path.join(name)));
            }
            Images::Labelled(folder) => {
                passed_over.extend(listed(folder.passed_over()));
                parts.push(labelled(name, folder));
            }
            Images::Flat(files) => {
                passed_over.extend(listed(files.passed_over()));
                kind += &format!(", and `{name}` without labels");
                parts.push(unlabelled(name, files));
            }
        }
    }
    let num_passed_over = passed_over.len() as u64;
    Ok(Data { passed_over, num_passed_over, ..data(kind, classes, parts) })
}

fn labelled(name: &str, folder: ImageFolder) -> Part {
    let counts = counts(folder.labels());
    picture_files(name, Arc::new(folder), Some(counts))
}

fn listed(passed_over: &[PassedOver]) -> Vec<(String, String)> {
    passed_over.iter().map(|passed| (passed.path.display().to_string(), passed.reason.to_string())).collect()
}

/// Images without labels. A label has to be there for all images alike; it is told nowhere.
fn unlabelled(name: &str, files: Files) -> Part {
    let part = picture_files(name, Arc::new(files.map(|file| (file, 0))), None);
    Part { fields: vec![field("image", "image file")], ..part }
}

fn images(path: &Path) -> Result<Data> {
    match ImageFolder::open(path) {
        Ok(folder) => {
            let (classes, class_counts) = (folder.classes().to_vec(), counts(folder.labels()));
            let passed_over = listed(folder.passed_over());
            let num_passed_over = passed_over.len() as u64;
            let part = picture_files("all", Arc::new(folder), Some(class_counts));
            Ok(Data { passed_over, num_passed_over, ..data("folder of images by class", classes, vec![part]) })
        }
        // Without folders of classes the images may lie in the folder itself.
        Err(error) if error.kind() == ErrorKind::Format => {
            let files = ImageFolder::open_unlabelled(path).map_err(|flat| what_is_missing(error, flat))?;
            let passed_over = listed(files.passed_over());
            let part = unlabelled("all", files);
            let num_passed_over = passed_over.len() as u64;
            let data = data("folder of images without classes", Vec::new(), vec![part]);
            Ok(Data { passed_over, num_passed_over, ..data })
        }
        Err(error) => Err(error),
    }
}
