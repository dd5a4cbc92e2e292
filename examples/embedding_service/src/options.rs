//! What can be said on the command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use procession::{Error, ErrorKind, Result, Retry};

use crate::embed::Sending;

pub(crate) const USAGE: &str = "\
Texts with labels are embedded by a service, and the vectors train a classifier.

  --url URL                the service, such as https://api.openai.com/v1 (the key: OPENAI_API_KEY);
                           without it a local one is started, which stands in for it
  --model NAME             the model that it is asked for (text-embedding-3-small)
  --data FILE              the texts, a line each: label, tab, text (subject lines of e-mails, shipped)
  --texts N                only so many of them
  --cache FILE             keep the vectors in a file, and ask only for those that are not there
  --in-flight N            the most requests at once (16)
  --texts-per-request K    (16)
  --rate-limit R           the most requests in a second (no limit)
  --timeout S              give up a request after so many seconds (30)
  --epochs E               (10)";

/// The options.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) url: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) model: String,
    pub(crate) data: Option<PathBuf>,
    pub(crate) num_texts: Option<usize>,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) sending: Sending,
    pub(crate) epochs: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: None,
            key: None,
            model: "text-embedding-3-small".to_owned(),
            data: None,
            num_texts: None,
            cache: None,
            sending: Sending {
                in_flight: 16,
                texts_per_request: 16,
                per_second: None,
                timeout: Duration::from_secs(30),
                retry: Retry::times(5).backoff(Duration::from_millis(200), 2.0, Duration::from_secs(10)),
            },
            epochs: 10,
        }
    }
}

impl Options {
    /// Reads the arguments; none if they ask for help.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            let value = arguments.next();
            let value = || value.ok_or_else(|| argument(format!("{name} without a value")));
            match name.as_str() {
                "--url" => options.url = Some(value()?),
                "--model" => options.model = value()?,
                "--data" => options.data = Some(value()?.into()),
                "--texts" => options.num_texts = Some(number(&name, &value()?)?),
                "--cache" => options.cache = Some(value()?.into()),
                "--in-flight" => options.sending.in_flight = number(&name, &value()?)?,
                "--texts-per-request" => options.sending.texts_per_request = number(&name, &value()?)?,
                "--rate-limit" => options.sending.per_second = Some(number(&name, &value()?)?),
                "--timeout" => {
                    let seconds = Duration::try_from_secs_f64(number(&name, &value()?)?);
                    options.sending.timeout = seconds.map_err(|cause| argument(format!("--timeout: {cause}")))?;
                }
                "--epochs" => options.epochs = number(&name, &value()?)?,
                _ => return Err(argument(format!("{name:?}, expected one of:\n{USAGE}"))),
            }
        }
        Ok(Some(options))
    }
}

fn argument(message: String) -> Error {
    Error::new(ErrorKind::Argument, message)
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| argument(format!("{name} {value}, expected a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        let line = "--url http://here/v1 --model m --data d --texts 9 --cache c --in-flight 3 --texts-per-request 4 \
                    --rate-limit 2.5 --timeout 0.5 --epochs 6";
        let options = parse(line).unwrap().unwrap();
        let sending = Sending {
            in_flight: 3,
            texts_per_request: 4,
            per_second: Some(2.5),
            timeout: Duration::from_millis(500),
            ..Options::default().sending
        };
        let expected = Options {
            url: Some("http://here/v1".to_owned()),
            key: None,
            model: "m".to_owned(),
            data: Some("d".into()),
            num_texts: Some(9),
            cache: Some("c".into()),
            sending,
            epochs: 6,
        };
        assert_eq!(options, expected);
        assert_eq!(parse("").unwrap(), Some(Options::default()));
        assert_eq!(parse("--epochs 3 --help").unwrap(), None);
    }

    #[test]
    fn what_is_no_option_is_named() {
        let error = |line| parse(line).unwrap_err().to_string();
        assert_eq!(error("--epochs"), "--epochs without a value");
        assert_eq!(error("--epochs many"), "--epochs many, expected a number");
        assert!(error("--timeout -1").starts_with("--timeout: "));
        assert!(error("--verbose 1").starts_with("\"--verbose\", expected one of:\n"));
    }
}
