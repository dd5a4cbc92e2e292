//! Names of classes, in the order of their numbers.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};

/// Classes by name and by number.
#[derive(Debug, Clone)]
pub(super) struct Classes {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Classes {
    /// # Errors
    ///
    /// Of kind [`Argument`](ErrorKind::Argument) if there are none, or two of the same name.
    pub(super) fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.is_empty() {
            return Err(Error::argument("no names of classes, expected at least one"));
        }
        let mut numbers = HashMap::with_capacity(names.len());
        for (number, name) in names.iter().enumerate() {
            if numbers.insert(name.clone(), number_of(number)?).is_some() {
                return Err(Error::argument(format!("two classes are named {name:?}, expected one")));
            }
        }
        Ok(Self { names, numbers })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// What an error says is expected where a name is none of them.
    pub(super) fn expected(&self) -> String {
        const MOST_NAMES: usize = 20;

        let names: Vec<&str> = self.names.iter().take(MOST_NAMES).map(String::as_str).collect();
        let more = if self.names.len() > MOST_NAMES { " and others" } else { "" };
        format!("a class, one of {}{more}", names.join(", "))
    }
}

/// A place among classes as a label.
pub(super) fn number_of(place: usize) -> Result<u32> {
    u32::try_from(place).map_err(|_| Error::new(ErrorKind::Limit, "more than 2^32 classes"))
}
