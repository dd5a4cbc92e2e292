//! A batch between its first row and its last: the rows in their places, those that are not, and what is made of both.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, PoisonError};

use crate::batch::assemble::Assemble;
use crate::batch::rows::{Buffer, Ledger, Rows};
use crate::batch::{Batch, Cargo, Spares};
use crate::error::{Error, ErrorKind, Result};
use crate::failure::{OnFailure, Retry, Skipped};
use crate::gate::Gate;
use crate::plan::{BatchPlan, Plan};
use crate::rng::Visit;
use crate::stage::Stage;
use crate::sync::{Mutex, lock};

/// The index of a row for which the sampler gave none.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Everything that a loader's batches are made with; the same for all its runs.
pub(crate) struct Recipe<P: Stage, A: Assemble<P>> {
    pub(crate) stage: P,
    pub(crate) assemble: A,
    pub(crate) plan: Plan,
    pub(crate) len: u64,
    pub(crate) on_failure: OnFailure,
    pub(crate) retry: Retry,
    pub(crate) spares: Arc<Spares<A::Batch>>,
    /// The layout of every batch, where it is known before the first sample.
    pub(crate) fixed_layout: Option<A::Layout>,
    /// Present if the sequence asked for a barrier.
    pub(crate) gate: Option<Gate>,
}

impl<P: Stage, A: Assemble<P>> fmt::Debug for Recipe<P, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipe").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// A batch under construction.
pub(crate) struct Partial<P: Stage, A: Assemble<P>> {
    pub(crate) epoch: u64,
    pub(crate) plan: BatchPlan,
    pub(crate) indices: Rows<Buffer<u64>>,
    // Set by the first sample whose layout is known.
    pub(crate) body: Eventually<Result<BodyOf<P, A>>>,
    // What the batch will be carried in, with memory for the body until that is made.
    pub(crate) cargo: Mutex<Box<Cargo<A::Batch>>>,
    pub(crate) troubles: Mutex<Vec<Trouble<P::Sample>>>,
}

/// What is there from the start, or is made by whoever asks first.
pub(crate) enum Eventually<T> {
    Given(T),
    Made(OnceLock<T>),
}

impl<T> Eventually<T> {
    pub(crate) fn new(given: Option<T>) -> Self {
        given.map_or_else(|| Self::Made(OnceLock::new()), Self::Given)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Made(cell) => cell.get(),
        }
    }

    fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        match self {
            Self::Given(value) => value,
            Self::Made(cell) => cell.get_or_init(make),
        }
    }

    fn into_inner(self) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Made(cell) => cell.into_inner(),
        }
    }
}

/// The rows of a batch whose layout is known.
pub(crate) struct Body<L, C> {
    pub(crate) layout: L,
    pub(crate) rows: Rows<C>,
}

/// The body of a batch that an assembly makes.
pub(crate) type BodyOf<P, A> = Body<<A as Assemble<P>>::Layout, <A as Assemble<P>>::Columns>;
/// The same, and the rows of it that failed.
type Settled<P, A> = (BodyOf<P, A>, Vec<(usize, Error)>);

/// A row that is not in its place.
pub(crate) enum Trouble<S> {
    /// It could not be loaded.
    Failed(usize, Error),
    /// It has another layout than the sample that came first, in time. Which of the two is at fault is decided by the
    /// order of rows, when the batch is closed.
    Stray(usize, S),
}

impl<S> Trouble<S> {
    fn row(&self) -> usize {
        match *self {
            Self::Failed(row, _) | Self::Stray(row, _) => row,
        }
    }
}

/// A finished batch, or what came of it.
pub(crate) struct Outcome<D> {
    /// The batch; `None` if every sample of it was skipped.
    pub(crate) batch: Result<Option<Batch<D>>>,
    /// The samples of it that were left out.
    pub(crate) skipped: Vec<Skipped>,
    /// The number of samples it was to have.
    pub(crate) num_rows: u64,
}

impl<P: Stage, A: Assemble<P>> Recipe<P, A> {
    /// Runs the sequence's hook, behind its barrier if it has one.
    pub(crate) fn on_epoch_start(&self, epoch: u64) -> Result<()> {
        let hook = || self.stage.source().on_epoch_start(epoch);
        match &self.gate {
            Some(gate) => gate.run_alone(hook),
            None => hook(),
        }
    }

    fn new_body(
        &self,
        layout: A::Layout,
        num_rows: usize,
        spare: Option<A::Batch>,
        ledger: Ledger,
    ) -> Result<BodyOf<P, A>> {
        let columns = self.assemble.columns(&layout, num_rows, spare)?;
        Ok(Body { layout, rows: Rows::new(columns, num_rows, ledger) })
    }

    /// A body in the memory that a batch's cargo brings.
    pub(crate) fn body_for(
        &self,
        layout: A::Layout,
        num_rows: usize,
        cargo: &mut Cargo<A::Batch>,
    ) -> Result<BodyOf<P, A>> {
        let (spare, ledger) = (cargo.data.take(), std::mem::take(&mut cargo.ledgers[1]));
        self.new_body(layout, num_rows, spare, ledger)
    }

    /// Decides about rows that are not in their places: what could not be loaded has failed, and so has what differs
    /// in layout from the first sample, in the plan's order, that was loaded. Returns the batch's body and the
    /// failures by row.
    fn settle(
        &self,
        body: Option<BodyOf<P, A>>,
        troubles: Vec<Trouble<P::Sample>>,
        num_rows: usize,
        indices: &[u64],
    ) -> Result<Settled<P, A>> {
        let mut in_place = vec![true; if troubles.is_empty() { 0 } else { num_rows }];
        let (mut failures, mut strays) = (Vec::new(), Vec::new());
        for trouble in troubles {
            in_place[trouble.row()] = false;
            match trouble {
                Trouble::Failed(row, error) => failures.push((row, error)),
                Trouble::Stray(row, sample) => strays.push((row, self.assemble.layout(&sample), sample)),
            }
        }
        let mut body = match body {
            Some(body) => body,
            // No row has a place: there are none, or all have failed.
            None => self.new_body(self.assemble.empty_layout(), num_rows, None, Ledger::default())?,
        };
        strays.sort_by_key(|&(row, ..)| row);
        if let Some(&(first_stray, ref layout, _)) = strays.first() {
            let first_in_place = in_place.iter().position(|&in_place| in_place);
            let differs = |layout: &A::Layout, reference: &A::Layout, first: usize| {
                let index = indices[first];
                let message =
                    format!("layout {layout:?}, expected {reference:?} as of index {index} in the same batch");
                Error::new(ErrorKind::Shape, message)
            };
            if let Some(first) = first_in_place.filter(|&first| first < first_stray) {
                // Their samples go here, and not when this returns: see `close`.
                let strays = strays.into_iter().map(|(row, layout, _)| (row, differs(&layout, &body.layout, first)));
                failures.extend(strays);
            } else {
                let reference = layout.clone();
                let new = self.new_body(reference.clone(), num_rows, None, Ledger::default())?;
                let old = std::mem::replace(&mut body, new);
                let rows = in_place.iter().enumerate().filter(|(_, in_place)| **in_place).map(|(row, _)| row);
                failures.extend(rows.map(|row| (row, differs(&old.layout, &reference, first_stray))));
                for (row, layout, sample) in strays {
                    if layout == reference {
                        let mut chunk = body.rows.claim(row..row + 1);
                        self.assemble.write(&mut chunk, 0, sample);
                    } else {
                        failures.push((row, differs(&layout, &reference, first_stray)));
                    }
                }
            }
        }
        failures.sort_by_key(|&(row, _)| row);
        Ok((body, failures))
    }
}

impl<P: Stage, A: Assemble<P>> Recipe<P, A> {
    /// Makes the batch, and accounts for the rows that are not in it.
    pub(crate) fn close(&self, partial: Partial<P, A>) -> Outcome<A::Batch> {
        let Partial { epoch, plan, indices, body, troubles, cargo, .. } = partial;
        let num_rows = plan.num_rows;
        let fail = |error| Outcome { batch: Err(error), skipped: Vec::new(), num_rows };
        let (indices, first_ledger) = indices.into_parts();
        let mut indices = indices.into_vec();
        let troubles = troubles.into_inner().unwrap_or_else(PoisonError::into_inner);
        let position = |row: usize| plan.first_position + row as u64 * plan.step;
        let index = |row: usize| Some(indices[row]).filter(|&index| index != UNKNOWN);

        let body = body.into_inner().and_then(Result::ok);
        let (body, failures) = match self.settle(body, troubles, num_rows as usize, &indices) {
            Ok(settled) => settled,
            Err(error) => return fail(error.with_place(epoch, plan.first_position)),
        };
        // What `settle` finds at fault has no place yet.
        let locate = |row: usize, error: Error| match (error.position(), index(row)) {
            (None, Some(index)) => self.locate(error, &self.visit(epoch, position(row), index)),
            _ => error,
        };
        let skip = |row: usize, error: Arc<Error>| Skipped { position: position(row), index: index(row), error };
        let mut keep = vec![true; if failures.is_empty() { 0 } else { num_rows as usize }];
        let mut skipped = Vec::new();
        for (row, error) in failures {
            let error = locate(row, error);
            if let OnFailure::Stop = self.on_failure {
                // Before there is something to return: the compiler forgets what is about to be returned when a destructor
                // panics on the way out (rust-lang/rust#47949), and the samples' are the user's.
                drop(body);
                return fail(error);
            }
            keep[row] = false;
            skipped.push(skip(row, Arc::new(error)));
        }
        let keep = (!skipped.is_empty()).then_some(keep);
        if num_rows > 0 && skipped.len() as u64 == num_rows {
            drop(body);
            return Outcome { batch: Ok(None), skipped, num_rows };
        }

        let Body { layout, rows } = body;
        let (columns, second_ledger) = rows.into_parts();
        // A rank that has no part in the batch has no first row, and its position stands for it all the same.
        let first = self.visit(epoch, plan.first_position, indices.first().copied().unwrap_or(UNKNOWN));
        let collate = || self.assemble.finish(columns, &layout, num_rows as usize, keep.as_deref(), &first);
        let collated = catch_unwind(AssertUnwindSafe(collate));
        let kept = |row: &usize| keep.as_ref().is_none_or(|keep| keep[*row]);
        let data = match collated.unwrap_or_else(|payload| Err(Error::panicked(payload))) {
            Ok(Some(data)) => data,
            Ok(None) => return Outcome { batch: Ok(None), skipped, num_rows },
            Err(error) => {
                // Collation has no row of its own: the error bears the place of the first sample that it was given,
                // and if failures are skipped all of the samples are.
                let error = match (0..num_rows as usize).find(kept) {
                    Some(row) => locate(row, error),
                    None => error.with_epoch(epoch),
                };
                if let OnFailure::Stop = self.on_failure {
                    return fail(error);
                }
                let error = Arc::new(error);
                skipped.extend((0..num_rows as usize).filter(kept).map(|row| skip(row, Arc::clone(&error))));
                skipped.sort_by_key(|skipped| skipped.position);
                return Outcome { batch: Ok(None), skipped, num_rows };
            }
        };
        let num_padded = (num_rows - plan.num_padded..num_rows).filter(|&row| kept(&(row as usize))).count();
        if let Some(keep) = &keep {
            let mut keep = keep.iter();
            indices.retain(|_| keep.next().is_some_and(|&keep| keep));
        }
        let mut cargo = cargo.into_inner().unwrap_or_else(PoisonError::into_inner);
        (cargo.epoch, cargo.number, cargo.num_padded) = (epoch, plan.number, num_padded);
        (cargo.data, cargo.indices, cargo.ledgers) = (Some(data), indices, [first_ledger, second_ledger]);
        Outcome { batch: Ok(Some(Batch::new(cargo))), skipped, num_rows }
    }

    pub(crate) fn visit(&self, epoch: u64, position: u64, index: u64) -> Visit {
        Visit::new(self.plan.stream_seed(), epoch, position, index)
    }

    /// Says where an error happened.
    pub(crate) fn locate(&self, error: Error, visit: &Visit) -> Error {
        let error = error.with_place(visit.epoch(), visit.position()).with_index(visit.index());
        let index = visit.index() as usize;
        match catch_unwind(AssertUnwindSafe(|| self.stage.source().file(index))) {
            Ok(Some(file)) => error.with_file(file),
            Ok(None) | Err(_) => error,
        }
    }
}

impl<P: Stage, A: Assemble<P>> Partial<P, A> {
    pub(crate) fn position(&self, row: usize) -> u64 {
        self.plan.first_position + row as u64 * self.plan.step
    }

    pub(crate) fn fail(&self, row: usize, error: Error) {
        lock(&self.troubles).push(Trouble::Failed(row, error));
    }

    pub(crate) fn has_failed(&self, row: usize) -> bool {
        lock(&self.troubles).iter().any(|trouble| trouble.row() == row)
    }

    /// The rows, made in a layout by whoever asks first; and whether this was it.
    pub(crate) fn body(
        &self,
        recipe: &Recipe<P, A>,
        layout: impl FnOnce() -> A::Layout,
    ) -> Result<(&BodyOf<P, A>, bool)> {
        let mut made = false;
        let body = self.body.get_or_init(|| {
            made = true;
            recipe.body_for(layout(), self.plan.num_rows as usize, &mut lock(&self.cargo))
        });
        match body {
            Ok(body) => Ok((body, made)),
            Err(error) => Err(Error::new(error.kind(), error.message().to_owned())),
        }
    }
}
