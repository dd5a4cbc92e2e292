//! Which positions make a batch, and which rank gets them: arithmetic, with no clock, no threads and no list.
//!
//! An epoch has `n` positions (the sampler's length). Global batch `b` holds the `batch_size` positions from
//! `b * batch_size` on; the last one is smaller, is left out, or is filled up, as [`Tail`] says. Position `p` belongs
//! to rank `p % world_size`: over an epoch, and within each batch, two ranks differ by at most one sample, whatever
//! the length, and the union over ranks of step `b` is global batch `b`.

use std::env;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::sampler::Sampler;

/// What happens to the last batch of an epoch, when the length is not a multiple of the batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Tail {
    /// It is delivered with the samples that are left. The default: nothing is lost, nothing is seen twice.
    #[default]
    Keep,
    /// It is left out: `n % batch_size` samples are not visited in this epoch (other ones each epoch, if shuffled).
    Drop,
    /// It is filled up with the samples from the front of the epoch's order: padding position `n + i` shows the index
    /// of position `i % n`. Padded rows are the last of the batch and are counted in
    /// [`Batch::num_padded`](crate::Batch::num_padded).
    Pad,
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::Pad => "pad",
        })
    }
}

/// Which of how many processes this one is.
///
/// # Examples
///
/// ```
/// use procession::World;
///
/// let world = World::new(2, 4)?;
/// assert_eq!((world.rank(), world.size()), (2, 4));
/// assert!(World::new(4, 4).is_err());
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    rank: u32,
    size: u32,
}

impl Default for World {
    /// A single process.
    fn default() -> Self {
        Self { rank: 0, size: 1 }
    }
}

/// The variables by which launchers tell a process its rank and the world size, in the order in which they are tried.
const LAUNCHERS: [(&str, &str, &str); 4] = [
    ("torchrun", "RANK", "WORLD_SIZE"),
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MPICH", "PMI_RANK", "PMI_SIZE"),
    ("Slurm", "SLURM_PROCID", "SLURM_NTASKS"),
];

impl World {
    /// A world of `size` processes, of which this is number `rank`.
    ///
    /// # Errors
    ///
    /// If `rank` is not below `size`.
    pub fn new(rank: u32, size: u32) -> Result<Self> {
        if rank < size {
            Ok(Self { rank, size })
        } else {
            Err(Error::argument(format!("rank {rank}, expected one below the world size {size}")))
        }
    }

    /// What the launcher says in the environment: torchrun (`RANK`, `WORLD_SIZE`), Open MPI
    /// (`OMPI_COMM_WORLD_RANK`, `.._SIZE`), MPICH and kin (`PMI_RANK`, `PMI_SIZE`), Slurm (`SLURM_PROCID`,
    /// `SLURM_NTASKS`), in this order; a single process if none of them is set.
    ///
    /// # Errors
    ///
    /// If only one of a pair is set, or a value is not a number, or the rank is not below the size.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        for (launcher, rank_name, size_name) in LAUNCHERS {
            let number = |name: &str, text: &str| {
                text.trim().parse::<u32>().map_err(|cause| {
                    let message =
                        format!("{name}={text} as set by {launcher}, expected a number from 0 to {}", u32::MAX);
                    Error::argument(message).with_cause(cause)
                })
            };
            match (variable(rank_name), variable(size_name)) {
                (Some(rank), Some(size)) => return Self::new(number(rank_name, &rank)?, number(size_name, &size)?),
                (None, None) => {}
                (rank, _) => {
                    let (set, unset) = if rank.is_some() { (rank_name, size_name) } else { (size_name, rank_name) };
                    return Err(Error::argument(format!("{set} is set but {unset} is not, expected both or neither")));
                }
            }
        }
        Ok(Self::default())
    }

    /// Which process this is, below [`size`](Self::size).
    pub fn rank(self) -> u32 {
        self.rank
    }

    /// How many processes there are, at least 1.
    pub fn size(self) -> u32 {
        self.size
    }
}

/// Where in the run the next batch is: all that a resume needs, in a few dozen bytes.
///
/// A state is a value: going on does not change one taken earlier. With the `serde` feature it serialises; without,
/// [`Display`](fmt::Display) and [`FromStr`](std::str::FromStr) write and read one line of text.
///
/// # Examples
///
/// ```
/// use procession::{Loader, State};
///
/// let loader = Loader::builder((0..100_u32).collect::<Vec<_>>()).batch_size(7).shuffle(1).build()?;
/// let mut epoch = loader.epochs(0..1).next().unwrap();
/// let first = epoch.next().unwrap()?;
/// let saved: String = epoch.state().to_string();
/// let rest: Vec<_> = epoch.map(|batch| batch.unwrap().indices().to_vec()).collect();
///
/// let state: State = saved.parse()?;
/// let resumed = loader.epochs(0..1).resume(&state)?.next().unwrap();
/// let again: Vec<_> = resumed.map(|batch| batch.unwrap().indices().to_vec()).collect();
/// assert_eq!(rest, again);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct State {
    /// The seed of the random streams.
    pub seed: u64,
    /// The epoch that the next batch belongs to.
    pub epoch: u64,
    /// The number of the next batch in that epoch; the number of batches if the epoch is over.
    pub next_batch: u64,
    /// The global position at which the next batch begins.
    pub next_position: u64,
    /// The number of positions in an epoch.
    pub num_positions: u64,
    /// The global batch size.
    pub batch_size: u64,
    /// What happens to the last batch.
    pub tail: Tail,
    /// The sampler with all its parameters.
    pub sampler: String,
}

const STATE_PREFIX: &str = "procession-state-1";

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{STATE_PREFIX} seed={} epoch={} next_batch={} next_position={} num_positions={} batch_size={} tail={} \
             sampler={}",
            self.seed,
            self.epoch,
            self.next_batch,
            self.next_position,
            self.num_positions,
            self.batch_size,
            self.tail,
            self.sampler
        )
    }
}

impl std::str::FromStr for State {
    type Err = Error;

    /// Reads what [`Display`](fmt::Display) wrote.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: String| Error::new(ErrorKind::Format, what);
        let rest = text
            .strip_prefix(STATE_PREFIX)
            .ok_or_else(|| wrong(format!("a state begins with `{STATE_PREFIX}`, got {:.40?}", text)))?;
        let mut fields = rest.trim_start();
        let mut field = |name: &str, last: bool| -> Result<String> {
            let value = fields
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('='))
                .ok_or_else(|| wrong(format!("`{name}=` expected at {fields:.40?} in a state")))?;
            // The sampler's description comes last, as it may contain spaces.
            let (value, rest) = if last { (value, "") } else { value.split_once(' ').unwrap_or((value, "")) };
            fields = rest;
            Ok(value.to_owned())
        };
        let mut number = |name: &str| -> Result<u64> {
            let text = field(name, false)?;
            text.parse().map_err(|cause| {
                let message = format!("{name}={text:.40} in a state, expected a number from 0 to {}", u64::MAX);
                wrong(message).with_cause(cause as std::num::ParseIntError)
            })
        };
        Ok(Self {
            seed: number("seed")?,
            epoch: number("epoch")?,
            next_batch: number("next_batch")?,
            next_position: number("next_position")?,
            num_positions: number("num_positions")?,
            batch_size: number("batch_size")?,
            tail: match field("tail", false)?.as_str() {
                "keep" => Tail::Keep,
                "drop" => Tail::Drop,
                "pad" => Tail::Pad,
                other => return Err(wrong(format!("tail={other:.40} in a state, expected keep, drop or pad"))),
            },
            sampler: field("sampler", true)?,
        })
    }
}

/// One rank's part of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlan {
    /// The batch's place in its epoch.
    pub number: u64,
    /// The first position of this rank's part.
    pub first_position: u64,
    /// The distance between two positions of this part: the world size.
    pub step: u64,
    /// The number of samples in this part.
    pub num_rows: u64,
    /// How many of them, the last ones, are padding.
    pub num_padded: u64,
}

/// The order of batches as a pure function: sampler, batch size, tail, rank and world size.
///
/// # Examples
///
/// ```
/// use procession::{InOrder, Plan, Tail, World};
///
/// let plan = Plan::new(InOrder::new(10), 4)?.tail(Tail::Pad).world(World::new(1, 2)?);
/// assert_eq!(plan.num_batches(), 3);
/// assert_eq!(plan.indices(0, 2), [9, 1]); // positions 8..12 of which 10 and 11 are padding; this rank has 9 and 11
/// assert_eq!(plan.batch(0, 2).num_padded, 1);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone)]
pub struct Plan {
    sampler: Arc<dyn Sampler>,
    // What the sampler said of itself when the plan was made: asked once, it cannot change its mind in mid-epoch.
    len: u64,
    description: Arc<str>,
    seed: u64,
    batch_size: u64,
    tail: Tail,
    world: World,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("sampler", &self.description)
            .field("seed", &self.seed)
            .field("batch_size", &self.batch_size)
            .field("tail", &self.tail)
            .field("world", &self.world)
            .finish()
    }
}

impl Plan {
    /// The largest length of an epoch: positions of padding must fit behind it.
    const MAX_POSITIONS: u64 = 1 << 63;
    const MAX_BATCH_SIZE: u64 = 1 << 24;

    /// A plan with `batch_size` samples in a global batch, kept tails and a single process.
    ///
    /// # Errors
    ///
    /// If `batch_size` is 0 or above 2^24, or the sampler has more than 2^63 positions.
    pub fn new(sampler: impl Sampler + 'static, batch_size: u64) -> Result<Self> {
        Self::from_shared(Arc::new(sampler), batch_size)
    }

    pub(crate) fn from_shared(sampler: Arc<dyn Sampler>, batch_size: u64) -> Result<Self> {
        if !(1..=Self::MAX_BATCH_SIZE).contains(&batch_size) {
            return Err(Error::argument(format!("batch size {batch_size}, expected 1 to {}", Self::MAX_BATCH_SIZE)));
        }
        let len = sampler.len();
        if len > Self::MAX_POSITIONS {
            return Err(Error::argument(format!("{len} positions, expected at most {}", Self::MAX_POSITIONS)));
        }
        let description = sampler.describe().into();
        Ok(Self { sampler, len, description, seed: 0, batch_size, tail: Tail::default(), world: World::default() })
    }

    /// Sets what happens to the last batch.
    pub fn tail(mut self, tail: Tail) -> Self {
        self.tail = tail;
        self
    }

    /// Sets which process this is.
    pub fn world(mut self, world: World) -> Self {
        self.world = world;
        self
    }

    pub(crate) fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The sampler with all its parameters.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    pub(crate) fn stream_seed(&self) -> u64 {
        self.seed
    }

    /// The most rows that this rank's part of a batch can have.
    pub(crate) fn max_rows(&self) -> usize {
        self.batch_size.div_ceil(u64::from(self.world.size)) as usize
    }

    /// The number of samples in a full batch over all ranks.
    pub fn batch_size(&self) -> u64 {
        self.batch_size
    }

    /// The number of batches in an epoch; the same for every rank.
    pub fn num_batches(&self) -> u64 {
        self.part_of_epoch(0, 0, 0).num_batches
    }

    /// This rank's part of batch `number` of an epoch.
    ///
    /// # Panics
    ///
    /// If the epoch has no such batch.
    pub fn batch(&self, epoch: u64, number: u64) -> BatchPlan {
        self.part_of_epoch(epoch, 0, 0).batch(self, number)
    }

    /// The indices of the samples in this rank's part of batch `number` of an epoch, padding included.
    ///
    /// # Panics
    ///
    /// If the epoch has no such batch.
    pub fn indices(&self, epoch: u64, number: u64) -> Vec<u64> {
        let batch = self.batch(epoch, number);
        let mut indices = vec![0; usize::try_from(batch.num_rows).expect("a batch has at most 2^24 rows")];
        self.fill_indices(epoch, batch.first_position, &mut indices);
        indices
    }

    /// The indices at positions `first`, `first + world size`, ..; positions of padding show those of the front.
    pub(crate) fn fill_indices(&self, epoch: u64, first: u64, out: &mut [u64]) {
        let (len, step) = (self.len, u64::from(self.world.size));
        // How many of them are positions of the epoch itself; the rest are padding.
        let real = if first >= len { 0 } else { (len - first).div_ceil(step).min(out.len() as u64) };
        let (front, padding) = out.split_at_mut(real as usize);
        if !front.is_empty() {
            self.sampler.fill(epoch, first, step, front);
        }
        for (at, index) in padding.iter_mut().enumerate() {
            *index = self.sampler.index(epoch, (first + (real + at as u64) * step) % len);
        }
    }

    /// The part of an epoch from a position on, in batches counted from `first_batch`.
    pub(crate) fn part_of_epoch(&self, epoch: u64, first_batch: u64, first_position: u64) -> PartOfEpoch {
        let len = self.len;
        let left = len.saturating_sub(first_position);
        let num_batches = match self.tail {
            Tail::Keep | Tail::Pad => left.div_ceil(self.batch_size),
            Tail::Drop => left / self.batch_size,
        };
        let end_position = match self.tail {
            Tail::Keep => len,
            Tail::Drop | Tail::Pad => first_position + num_batches * self.batch_size,
        };
        PartOfEpoch { epoch, first_batch, first_position, num_batches, end_position }
    }

    /// The state before batch `next_batch` of a part of an epoch.
    pub(crate) fn state(&self, part: &PartOfEpoch, next_batch: u64) -> State {
        State {
            seed: self.seed,
            epoch: part.epoch,
            next_batch,
            next_position: part.position_of(self, next_batch),
            num_positions: self.len,
            batch_size: self.batch_size,
            tail: self.tail,
            sampler: self.description.to_string(),
        }
    }

    /// Says what differs if a state does not fit, and else where it points to.
    pub(crate) fn resume(&self, state: &State, rebatch: bool) -> Result<PartOfEpoch> {
        let mine = self.state(&self.part_of_epoch(state.epoch, 0, 0), 0);
        let mut differences = Vec::new();
        let mut compare = |name: &str, saved: &dyn fmt::Display, mine: &dyn fmt::Display| {
            let (saved, mine) = (saved.to_string(), mine.to_string());
            if saved != mine {
                differences.push(format!("{name} {saved} in the state but {mine} in the loader"));
            }
        };
        compare("length", &state.num_positions, &mine.num_positions);
        compare("seed", &state.seed, &mine.seed);
        compare("sampler", &state.sampler, &mine.sampler);
        compare("tail", &state.tail, &mine.tail);
        if !rebatch {
            compare("batch size", &state.batch_size, &mine.batch_size);
        }
        let refuse = |why: String| Err(Error::new(ErrorKind::State, format!("the state does not fit: {why}")));
        if !differences.is_empty() {
            return refuse(differences.join("; "));
        }
        let State { next_batch, next_position, .. } = *state;
        if !(1..=Self::MAX_BATCH_SIZE).contains(&state.batch_size) {
            return refuse(format!("batch size {}, expected 1 to {}", state.batch_size, Self::MAX_BATCH_SIZE));
        }
        // The end of an epoch lies behind the last position if it is padded.
        let most = self.len + state.batch_size - 1;
        if next_position > most || next_batch > next_position || (next_position > 0 && next_batch == 0) {
            return refuse(format!("batch {next_batch} cannot begin at position {next_position}"));
        }
        Ok(self.part_of_epoch(state.epoch, next_batch, next_position))
    }
}

/// An epoch, or what is left of it after a resume. All arithmetic on batches happens here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartOfEpoch {
    pub(crate) epoch: u64,
    pub(crate) first_batch: u64,
    pub(crate) first_position: u64,
    pub(crate) num_batches: u64,
    pub(crate) end_position: u64,
}

impl PartOfEpoch {
    /// The number after the last batch's.
    pub(crate) fn end_batch(&self) -> u64 {
        self.first_batch + self.num_batches
    }

    /// The global position at which a batch begins, or the epoch's end behind the last one.
    fn position_of(&self, plan: &Plan, number: u64) -> u64 {
        let batches = number.saturating_sub(self.first_batch);
        if batches >= self.num_batches {
            return self.end_position.max(self.first_position);
        }
        self.first_position + batches * plan.batch_size
    }

    pub(crate) fn batch(&self, plan: &Plan, number: u64) -> BatchPlan {
        assert!(
            (self.first_batch..self.end_batch()).contains(&number),
            "batch {number} of an epoch with batches {}..{}",
            self.first_batch,
            self.end_batch()
        );
        let start = self.first_position + (number - self.first_batch) * plan.batch_size;
        let end = self.end_position.min(start + plan.batch_size);
        let (rank, step) = (u64::from(plan.world.rank), u64::from(plan.world.size));
        let count = |from: u64, to: u64| {
            let first = first_of_rank(from, rank, step);
            let positions = to.saturating_sub(first);
            (first, if step == 1 { positions } else { positions.div_ceil(step) })
        };
        let (first_position, num_rows) = count(start, end);
        let (_, num_padded) = count(plan.len.max(start), end);
        BatchPlan { number, first_position, step, num_rows, num_padded }
    }

    /// How many samples this rank is to deliver, padding included; and how many of them are padding.
    pub(crate) fn num_samples(&self, plan: &Plan) -> (u64, u64) {
        let (rank, step) = (u64::from(plan.world.rank), u64::from(plan.world.size));
        let count = |from: u64, to: u64| to.saturating_sub(first_of_rank(from, rank, step)).div_ceil(step);
        let end = self.end_position.max(self.first_position);
        (count(self.first_position, end), count(plan.len.max(self.first_position), end))
    }
}

/// The first position at or after `from` that belongs to a rank.
#[inline]
fn first_of_rank(from: u64, rank: u64, world_size: u64) -> u64 {
    // Divisions are most of what a batch's arithmetic costs, and a single process needs none.
    if world_size == 1 {
        return from;
    }
    from + (rank + world_size - from % world_size) % world_size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::InOrder;

    fn plan(len: u64, batch_size: u64) -> Plan {
        Plan::new(InOrder::new(len), batch_size).unwrap()
    }

    fn rank(plan: &Plan, rank: u32, size: u32) -> Plan {
        plan.clone().world(World::new(rank, size).unwrap())
    }

    #[test]
    fn tails() {
        let batches = |tail| {
            let plan = plan(10, 4).tail(tail);
            (0..plan.num_batches()).map(|number| plan.indices(0, number)).collect::<Vec<_>>()
        };
        assert_eq!(batches(Tail::Keep), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        assert_eq!(batches(Tail::Drop), [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
        assert_eq!(batches(Tail::Pad), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9, 0, 1]]);
    }

    #[test]
    fn padding_goes_round_more_than_once() {
        let plan = plan(3, 8).tail(Tail::Pad);
        assert_eq!(plan.indices(0, 0), [0, 1, 2, 0, 1, 2, 0, 1]);
        assert_eq!(plan.batch(0, 0).num_padded, 5);
    }

    #[test]
    fn no_samples_make_no_batches() {
        for tail in [Tail::Keep, Tail::Drop, Tail::Pad] {
            assert_eq!(plan(0, 4).tail(tail).num_batches(), 0);
        }
    }

    #[test]
    fn the_plans_formula_for_ranks() {
        let plan = plan(10, 2);
        let first: Vec<_> = (0..5).map(|number| rank(&plan, 0, 2).indices(0, number)).collect();
        assert_eq!(first, [[0], [2], [4], [6], [8]]);
        assert_eq!(rank(&self::plan(20, 8), 2, 4).indices(0, 0), [2, 6]);
        assert_eq!(rank(&self::plan(20, 8), 2, 4).indices(0, 2), [18]);
    }

    #[test]
    fn ranks_share_each_batch_and_differ_by_at_most_one() {
        for len in [0, 1, 5, 12, 13, 27, 100] {
            for size in 1..=7 {
                for batch_size in [1, 2, 3, 8, 30] {
                    for tail in [Tail::Keep, Tail::Drop, Tail::Pad] {
                        let whole = plan(len, batch_size).tail(tail);
                        let mut counts = vec![0; size as usize];
                        for number in 0..whole.num_batches() {
                            let mut union = Vec::new();
                            for r in 0..size {
                                let part = rank(&whole, r, size);
                                let batch = part.batch(0, number);
                                let rows = 0..batch.num_rows;
                                union.extend(rows.map(|row| batch.first_position + row * batch.step));
                                counts[r as usize] += batch.num_rows;
                            }
                            union.sort_unstable();
                            let batch = whole.batch(0, number);
                            let expected: Vec<_> = (0..batch.num_rows).map(|row| batch.first_position + row).collect();
                            assert_eq!(union, expected);
                        }
                        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                        assert!(most - least <= 1, "{counts:?}");
                        for r in 0..size {
                            let part = rank(&whole, r, size);
                            assert_eq!(part.part_of_epoch(0, 0, 0).num_samples(&part).0, counts[r as usize]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_environment_of_each_launcher() {
        let world = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            World::from_variables(move |name| {
                pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
            })
        };
        assert_eq!(world(&[]).unwrap(), World::default());
        for (_, rank, size) in LAUNCHERS {
            assert_eq!(world(&[(rank, "3"), (size, "8")]).unwrap(), World::new(3, 8).unwrap());
            assert!(world(&[(rank, "3")]).unwrap_err().to_string().contains(size));
            assert!(world(&[(size, "3")]).unwrap_err().to_string().contains(rank));
            assert!(world(&[(rank, "8"), (size, "8")]).is_err());
            assert!(world(&[(rank, "x"), (size, "8")]).unwrap_err().to_string().contains("x"));
        }
    }

    #[test]
    fn a_state_survives_its_text() {
        let plan = plan(100, 7).tail(Tail::Pad).seed(9);
        let state = plan.state(&plan.part_of_epoch(3, 0, 0), 5);
        assert_eq!(state.next_position, 35);
        assert_eq!(state.to_string().parse::<State>().unwrap(), state);
        for text in ["", "procession-state-1", "procession-state-1 seed=x", "procession-state-2 seed=1"] {
            assert_eq!(text.parse::<State>().unwrap_err().kind(), ErrorKind::Format);
        }
    }

    #[test]
    fn a_state_that_does_not_fit_says_what_differs() {
        let saved = plan(100, 7).seed(9);
        let state = saved.state(&saved.part_of_epoch(3, 0, 0), 5);
        assert!(saved.resume(&state, false).is_ok());
        let refused = |plan: &Plan, what: &str| {
            let error = plan.resume(&state, false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::State);
            assert!(error.to_string().contains(what), "{error}");
        };
        refused(&plan(101, 7).seed(9), "length 100 in the state but 101 in the loader");
        refused(&plan(100, 8).seed(9), "batch size 7 in the state but 8 in the loader");
        refused(&plan(100, 7).seed(8), "seed 9 in the state but 8 in the loader");
        refused(&saved.clone().tail(Tail::Drop), "tail keep in the state but drop in the loader");
        let shuffled = Plan::new(crate::sampler::Shuffle::new(100, 9), 7).unwrap().seed(9);
        refused(&shuffled, "sampler");
        let broken = State { next_position: 1000, ..state.clone() };
        assert!(saved.resume(&broken, false).is_err());
    }

    #[test]
    fn a_state_that_no_epoch_has_is_refused() {
        // 10 positions in batches of 4: the last one ends at 12 if it is padded, and one that is resumed in other batches
        // may end at 13 at most.
        let plan = plan(10, 4).tail(Tail::Pad);
        let state = plan.state(&plan.part_of_epoch(0, 0, 0), 0);
        for (next_batch, next_position, fits) in [
            (0, 0, true),
            (1, 4, true),
            (3, 12, true),
            (4, 13, true),
            (4, 14, false),
            (0, 1, false),
            (1, 0, false),
            (4, 4, true),
            (5, 4, false),
        ] {
            let resumed = plan.resume(&State { next_batch, next_position, ..state.clone() }, false);
            assert_eq!(resumed.is_ok(), fits, "batch {next_batch} at position {next_position}");
        }
    }

    #[test]
    fn what_a_plan_was_made_with_can_be_asked() {
        let world = World::new(2, 3).unwrap();
        let plan = Plan::new(InOrder::new(10), 4).unwrap().world(world);
        assert_eq!((world.rank(), world.size(), plan.batch_size(), plan.max_rows()), (2, 3, 4, 2));
        assert_eq!(plan.description(), "in_order(len=10)");
        let text = format!("{plan:?}");
        assert!(text.contains("in_order(len=10)") && text.contains("batch_size: 4"), "{text}");
    }

    #[test]
    fn a_rest_in_other_batches_is_the_rest() {
        let old = plan(100, 7);
        let state = old.state(&old.part_of_epoch(0, 0, 0), 3);
        let new = plan(100, 10);
        assert!(new.resume(&state, false).is_err());
        let part = new.resume(&state, true).unwrap();
        assert_eq!((part.first_batch, part.num_batches), (3, 8));
        let batch = part.batch(&new, 3);
        assert_eq!((batch.first_position, batch.num_rows), (21, 10));
        assert_eq!(part.batch(&new, 10).num_rows, 9);
        assert_eq!(new.state(&part, 4).next_position, 31);
    }
}
