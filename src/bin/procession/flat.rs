//! Files without a header: lines of text, and tokens one after the other.

use std::path::Path;
use std::sync::Arc;

use procession::source::{Lines, TokenType, TokenWindows, Tokens};
use procession::{Result, Sequence};
use serde::Serialize;

use crate::data::{Data, Part, data, field};
use crate::interrupt;
use crate::output::{count, thousands};
use crate::stop::Stop;
use crate::workload;

/// How a file of tokens is read. It tells nothing of itself.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TokenArgs {
    /// The type of the tokens in a file of tokens, little-endian [default: u16, which holds the vocabulary of GPT-2]
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// How many tokens of a file of tokens make a sample [default: 1024, the context of GPT-2]
    #[arg(long, value_name = "L", value_parser = clap::value_parser!(u32).range(1..))]
    window: Option<u32>,
    /// How many ids of tokens there are: one that is not below is a failure [default: whatever the type holds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    vocab_size: Option<u32>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Dtype {
    U16,
    U32,
}

impl TokenArgs {
    /// Whether anything is said of tokens.
    pub(crate) fn any(&self) -> bool {
        self.dtype.is_some() || self.window.is_some() || self.vocab_size.is_some()
    }
}

/// A file as lines of text.
pub(crate) fn lines(path: &Path) -> Result<Data> {
    let lines = Lines::open(path)?;
    let loaded = lines.clone();
    let part = Part {
        workload: Some(Arc::new(move || Ok(workload::stacked(loaded.clone())))),
        ..Part::new("all", lines.len(), vec![field("line", "text")], move |index| lines.get(index).map(drop))
    };
    Ok(data("lines of text", Vec::new(), vec![part]))
}

/// A file as windows of tokens.
pub(crate) fn tokens(path: &Path, args: &TokenArgs) -> Result<Data> {
    let options = match args.vocab_size {
        Some(vocab_size) => Tokens::options().vocab_size(vocab_size),
        None => Tokens::options(),
    };
    let tokens = match args.dtype.unwrap_or(Dtype::U16) {
        Dtype::U16 => options.open::<u16>(path)?,
        Dtype::U32 => options.open::<u32>(path)?,
    };
    let length = args.window.unwrap_or(1024) as usize;
    let windows = tokens.windows(length)?;
    let kind = format!("tokens of {} in windows of {}", tokens.token(), thousands(length as u64));
    let shape = format!("u32 [{length}]");
    let (fields, num_windows) = (vec![field("inputs", &*shape), field("targets", &*shape)], windows.len());
    let (loaded, singles) = (windows.clone(), tokens.windows(1)?);
    let facts = TokenFacts { tokens, windows: windows.clone() };
    let num_left = facts.num_left();
    let part = Part {
        tokens: Some(facts),
        workload: Some(Arc::new(move || Ok(workload::stacked(loaded.clone())))),
        ..Part::new("all", num_windows, fields, move |index| {
            windows.get(index)?;
            // What makes no window of its own is looked at with the last one. A window of one token reads the next, too.
            let rest = if index + 1 == num_windows { singles.len() - num_left..singles.len() } else { 0..0 };
            rest.into_iter().try_for_each(|single| singles.get(single).map(drop))
        })
    };
    Ok(data(kind, Vec::new(), vec![part]))
}

/// A file of tokens, to tell what it holds.
#[derive(Clone)]
pub(crate) struct TokenFacts {
    tokens: Tokens,
    windows: TokenWindows,
}

/// What a file of tokens holds, as JSON.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct TokenSummary {
    tokens: usize,
    /// The smallest and the largest id; absent where there are no tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    smallest: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    largest: Option<u32>,
    window: usize,
    /// Tokens at the end that are in no window.
    left_over: usize,
}

/// Bytes that are looked at between two looks for Ctrl-C: whole tokens of any type.
const BLOCK_BYTES: usize = 1 << 24;

impl TokenFacts {
    /// How many tokens at the end are neither an input nor the last target.
    fn num_left(&self) -> usize {
        let (length, num_windows) = (self.windows.length(), self.windows.len());
        self.tokens.num_tokens() - if num_windows > 0 { num_windows * length + 1 } else { 0 }
    }

    /// Reads all tokens.
    pub(crate) fn summary(&self) -> Result<TokenSummary, Stop> {
        let mut range: Option<(u32, u32)> = None;
        for block in self.tokens.data().chunks(BLOCK_BYTES) {
            if interrupt::requested() {
                return Err(Stop::Interrupted("before all tokens were read".to_owned()));
            }
            let found = match self.tokens.token() {
                TokenType::U16 => range_of(block.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes).into())),
                TokenType::U32 => range_of(block.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes))),
            };
            range = match (range, found) {
                (Some((least, most)), Some((smallest, largest))) => Some((least.min(smallest), most.max(largest))),
                (range, found) => range.or(found),
            };
        }
        Ok(TokenSummary {
            tokens: self.tokens.num_tokens(),
            smallest: range.map(|(least, _)| least),
            largest: range.map(|(_, most)| most),
            window: self.windows.length(),
            left_over: self.num_left(),
        })
    }
}

fn range_of(tokens: impl ExactSizeIterator<Item = u32>) -> Option<(u32, u32)> {
    if tokens.len() == 0 {
        return None;
    }
    Some(tokens.fold((u32::MAX, 0), |(least, most), token| (least.min(token), most.max(token))))
}

impl TokenSummary {
    /// What there is, in a line.
    pub(crate) fn line(&self) -> String {
        let mut line = count(self.tokens as u64, "token", "tokens");
        if let (Some(smallest), Some(largest)) = (self.smallest, self.largest) {
            line += &format!(" with ids from {} to {}", thousands(smallest.into()), thousands(largest.into()));
        }
        if self.left_over > 0 {
            line += &format!("; {} at the end in no window", thousands(self.left_over as u64));
        }
        line
    }
}
