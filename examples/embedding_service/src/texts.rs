//! Texts with labels, one a line: `label<TAB>text`.

use std::path::Path;

use procession::{Error, ErrorKind, Result, Sampler, Shuffle};

/// Texts and the class of each, as a number that counts the classes in the order of their names.
#[derive(Debug, PartialEq)]
pub(crate) struct Texts {
    pub(crate) texts: Vec<String>,
    pub(crate) labels: Vec<u32>,
    pub(crate) classes: Vec<String>,
}

impl Texts {
    /// Subject lines of e-mails that were wanted or not; `data/README.md` says where they come from.
    pub(crate) fn shipped() -> Result<Self> {
        Self::parse(include_str!("../data/subjects.tsv"))
    }

    /// Reads a file of one's own.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let content = std::fs::read(path).map_err(|cause| Error::from(cause).with_file(path))?;
        let content = String::from_utf8(content).map_err(|cause| {
            Error::new(ErrorKind::Format, "texts that are not UTF-8").with_cause(cause).with_file(path)
        })?;
        Self::parse(&content).map_err(|error| error.with_file(path))
    }

    fn parse(content: &str) -> Result<Self> {
        let mut rows = Vec::new();
        for (number, line) in content.lines().enumerate() {
            let row = line.split_once('\t').filter(|(label, text)| !label.is_empty() && !text.trim().is_empty());
            rows.push(row.ok_or_else(|| {
                let message = format!("line {}: {line:?}, expected a label, a tab and a text", number + 1);
                Error::new(ErrorKind::Format, message)
            })?);
        }
        let mut classes: Vec<String> = rows.iter().map(|(label, _)| (*label).to_owned()).collect();
        classes.sort();
        classes.dedup();
        if classes.len() < 2 {
            let message = format!("texts of the classes {classes:?}, expected two or more to tell apart");
            return Err(Error::new(ErrorKind::Format, message));
        }
        let class = |label: &str| classes.partition_point(|class| class.as_str() < label) as u32;
        let labels = rows.iter().map(|(label, _)| class(label)).collect();
        Ok(Self { texts: rows.iter().map(|(_, text)| (*text).to_owned()).collect(), labels, classes })
    }

    /// So many of the texts, from all over them.
    pub(crate) fn take(self, num_texts: usize) -> Self {
        let len = self.texts.len();
        let mut chosen = vec![0; num_texts.min(len)];
        Shuffle::new(len as u64, 7).fill(0, 0, 1, &mut chosen);
        chosen.sort_unstable();
        let at = |index: u64| index as usize;
        Self {
            texts: chosen.iter().map(|&index| self.texts[at(index)].clone()).collect(),
            labels: chosen.iter().map(|&index| self.labels[at(index)]).collect(),
            classes: self.classes,
        }
    }

    /// How many texts each class has.
    pub(crate) fn counts(&self) -> Vec<usize> {
        counts(&self.labels, self.classes.len())
    }
}

/// How often each class comes.
pub(crate) fn counts(labels: &[u32], num_classes: usize) -> Vec<usize> {
    let mut counts = vec![0; num_classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_texts_are_whole() {
        let texts = Texts::shipped().unwrap();
        assert_eq!((texts.texts.len(), texts.counts()), (3_397, vec![1_932, 1_465]));
        assert_eq!(texts.classes, ["ham", "spam"]);
        let mut distinct = texts.texts.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 3_397);
        let few = texts.take(100);
        assert_eq!(few.texts.len(), 100);
        assert!(few.counts().iter().all(|&count| count > 20), "{:?}", few.counts());
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let parse = |content| Texts::parse(content).unwrap_err().to_string();
        assert_eq!(parse("a\tx\nb"), "line 2: \"b\", expected a label, a tab and a text");
        assert_eq!(parse("a\t "), "line 1: \"a\\t \", expected a label, a tab and a text");
        assert_eq!(parse("a\tx\na\ty"), "texts of the classes [\"a\"], expected two or more to tell apart");
        assert_eq!(Texts::parse("b\tx\t1\na\ty").unwrap().labels, [1, 0]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.tsv");
        std::fs::write(&path, b"a\t\xff\nb\tx").unwrap();
        assert!(Texts::open(&path).unwrap_err().to_string().contains("not UTF-8"));
        assert!(Texts::open(&path.join("x")).unwrap_err().to_string().contains("texts.tsv/x"));
    }
}
