//! `procession order`: the indices that a plan gives.

use std::fmt::Write as _;
use std::num::NonZeroU64;

use clap::ValueEnum;
use procession::{BlockShuffle, Error, ErrorKind, InOrder, Plan, Result, Sampler, Shuffle, Tail, WindowShuffle, World};
use serde::Serialize;

use crate::interrupt;
use crate::output::Output;
use crate::stop::Stop;

/// Print the sample indices of an epoch in the order in which they are loaded, one batch a line.
///
/// Nothing is stored and nothing is skipped over: the first batch of 10^12 samples takes no longer than that of 10.
/// With --json a line has `epoch`, `number`, `indices` and, if the last of them are padding, `padded`: their number.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of samples
    #[arg(long, value_name = "N")]
    len: u64,
    /// Seed of the shuffle
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// The epoch, counted from 0
    #[arg(long, value_name = "E", default_value_t = 0)]
    epoch: u64,
    /// Samples in a batch, over all ranks together
    #[arg(long, value_name = "B", default_value_t = 32)]
    batch_size: u64,
    /// Print this rank's part of each batch only
    #[arg(long, value_name = "R", requires = "world_size")]
    rank: Option<u32>,
    /// Number of ranks
    #[arg(long, value_name = "W", requires = "rank")]
    world_size: Option<u32>,
    /// What happens to the last, smaller batch
    #[arg(long, default_value = "keep")]
    tail: TailOption,
    /// Leave out the first K batches
    #[arg(long, value_name = "K", default_value_t = 0)]
    skip: u64,
    /// Print K batches at most
    #[arg(long, value_name = "K", default_value_t = u64::MAX, hide_default_value = true)]
    take: u64,
    #[arg(long, default_value = "shuffle", value_parser = sampler_option, help = SAMPLER_HELP)]
    sampler: SamplerOption,
}

const SAMPLER_HELP: &str = "in-order; shuffle; block:SIZE[:SPAN], which shuffles blocks of SIZE samples, and the \
                            samples within every SPAN blocks (1 by default); or window:SIZE, which shuffles within \
                            each run of SIZE samples";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TailOption {
    Keep,
    Drop,
    Pad,
}

impl From<TailOption> for Tail {
    fn from(option: TailOption) -> Self {
        match option {
            TailOption::Keep => Self::Keep,
            TailOption::Drop => Self::Drop,
            TailOption::Pad => Self::Pad,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SamplerOption {
    InOrder,
    Shuffle,
    Block { block: NonZeroU64, span: NonZeroU64 },
    Window { window: NonZeroU64 },
}

fn sampler_option(text: &str) -> std::result::Result<SamplerOption, String> {
    let size = |text: &str| {
        text.parse::<NonZeroU64>().map_err(|_| format!("a size of {text:?}, expected a number from 1 to {}", u64::MAX))
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        ["in-order"] => Ok(SamplerOption::InOrder),
        ["shuffle"] => Ok(SamplerOption::Shuffle),
        ["block", block] => Ok(SamplerOption::Block { block: size(block)?, span: NonZeroU64::MIN }),
        ["block", block, span] => Ok(SamplerOption::Block { block: size(block)?, span: size(span)? }),
        ["window", window] => Ok(SamplerOption::Window { window: size(window)? }),
        _ => Err("expected in-order, shuffle, block:SIZE[:SPAN] or window:SIZE".to_owned()),
    }
}

/// The longest epoch.
const MAX_LEN: u64 = 1 << 63;

impl Args {
    fn plan(&self) -> Result<Plan> {
        let Self { len, seed, .. } = *self;
        if len > MAX_LEN {
            return Err(Error::new(ErrorKind::Argument, format!("{len} samples, expected at most {MAX_LEN}")));
        }
        let sampler: Box<dyn Sampler> = match self.sampler {
            SamplerOption::InOrder => Box::new(InOrder::new(len)),
            SamplerOption::Shuffle => Box::new(Shuffle::new(len, seed)),
            SamplerOption::Block { block, span } => Box::new(BlockShuffle::new(len, block.get(), span.get(), seed)),
            SamplerOption::Window { window } => Box::new(WindowShuffle::new(len, window.get(), seed)),
        };
        let world = match (self.rank, self.world_size) {
            (Some(rank), Some(size)) => World::new(rank, size)?,
            _ => World::default(),
        };
        Ok(Plan::new(sampler, self.batch_size)?.tail(self.tail.into()).world(world))
    }
}

/// A batch as JSON.
#[derive(Serialize)]
struct Line {
    epoch: u64,
    number: u64,
    indices: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    padded: Option<u64>,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<(), Stop> {
    let plan = args.plan()?;
    let end = args.skip.saturating_add(args.take).min(plan.num_batches());
    let mut text = String::new();
    for number in args.skip..end {
        if interrupt::requested() {
            return Err(Stop::Interrupted(format!("before batch {number} of {}", plan.num_batches())));
        }
        let indices = plan.indices(args.epoch, number);
        if out.is_json() {
            let padded = Some(plan.batch(args.epoch, number).num_padded).filter(|&padded| padded > 0);
            out.json(&Line { epoch: args.epoch, number, indices, padded })?;
        } else {
            text.clear();
            for (at, index) in indices.iter().enumerate() {
                let space = if at == 0 { "" } else { " " };
                // Writing to a string cannot fail.
                let _ = write!(text, "{space}{index}");
            }
            out.line(format_args!("{text}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_are_read() {
        let size = |size| NonZeroU64::new(size).unwrap();
        assert_eq!(sampler_option("in-order"), Ok(SamplerOption::InOrder));
        assert_eq!(sampler_option("block:8"), Ok(SamplerOption::Block { block: size(8), span: size(1) }));
        assert_eq!(sampler_option("block:8:2"), Ok(SamplerOption::Block { block: size(8), span: size(2) }));
        assert_eq!(sampler_option("window:5"), Ok(SamplerOption::Window { window: size(5) }));
        for wrong in ["", "blocks", "block", "block:0", "block:1:0", "block:1:1:1", "window:x", "window:", "shuffle:1"]
        {
            assert!(sampler_option(wrong).is_err(), "{wrong}");
        }
    }
}
