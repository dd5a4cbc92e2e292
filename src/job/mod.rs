//! One batch from its numbers to its data: the plan says which samples, the stages load them, the assembly makes them
//! a batch. This is what the engine evaluates; what user code throws ends here.

#[cfg(feature = "async")]
pub(crate) mod fetch;
mod load;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::assemble::Assemble;
use crate::batch::rows::{Buffer, Rows};
use crate::error::{Error, ErrorKind, Result};
use crate::partial::{Eventually, Outcome, Partial, Recipe, Trouble, UNKNOWN};
use crate::plan::{BatchPlan, PartOfEpoch};
use crate::stage::Stage;
use crate::sync::{Mutex, lock};
use crate::trace;
use crate::workers::run::Job;

/// A run's stretch of the plan: the rest of one epoch, and whole ones after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    pub(crate) first: PartOfEpoch,
    /// A whole epoch; those after the first are like it in all but their number.
    pub(crate) whole: PartOfEpoch,
}

impl Course {
    /// The epoch of batch `seq` of the run, and its number there.
    fn place(&self, seq: u64) -> (PartOfEpoch, u64) {
        match seq.checked_sub(self.first.num_batches) {
            None => (self.first, self.first.first_batch + seq),
            Some(later) => {
                let batches = self.whole.num_batches;
                (PartOfEpoch { epoch: self.first.epoch + 1 + later / batches, ..self.whole }, later % batches)
            }
        }
    }
}

/// The job of one run.
pub(crate) struct BatchJob<P: Stage, A: Assemble<P>> {
    pub(crate) recipe: Arc<Recipe<P, A>>,
    pub(crate) course: Course,
}

/// A sample that was loaded apart from its batch, and the memory it takes.
pub(crate) struct Loaded<S> {
    index: u64,
    sample: Result<(S, u64)>,
}

impl<P: Stage, A: Assemble<P>> BatchJob<P, A> {
    fn place(&self, seq: u64) -> (u64, BatchPlan) {
        let plan = &self.recipe.plan;
        let (part, number) = self.course.place(seq);
        (part.epoch, part.batch(plan, number))
    }

    fn out_of_range(&self, index: u64) -> Option<Error> {
        let recipe = &self.recipe;
        (index >= recipe.len).then(|| {
            let sampler = recipe.plan.description();
            let message = format!("the sampler {sampler} gave index {index}, expected one below {}", recipe.len);
            Error::new(ErrorKind::Sampler, message)
        })
    }

    /// The index at a position, and why it is none of the sequence's if so.
    fn draw_one(&self, epoch: u64, position: u64) -> (u64, Result<()>) {
        let mut index = [UNKNOWN];
        let drawn = catch_unwind(AssertUnwindSafe(|| self.recipe.plan.fill_indices(epoch, position, &mut index)));
        let [index] = index;
        let drawn = match (drawn, self.out_of_range(index)) {
            (Err(payload), _) => Err(Error::panicked(payload).with_place(epoch, position)),
            (Ok(()), Some(error)) => Err(error.with_place(epoch, position).with_index(index)),
            (Ok(()), None) => Ok(()),
        };
        (index, drawn)
    }

    /// Puts a loaded sample of some bytes in its place, or beside the batch if its layout is another one. Returns what
    /// it adds to the memory in use.
    fn put(&self, partial: &Partial<P, A>, row: usize, index: u64, sample: P::Sample, bytes: u64) -> u64 {
        let assemble = &self.recipe.assemble;
        let fail = |error| {
            let visit = self.recipe.visit(partial.epoch, partial.position(row), index);
            partial.fail(row, self.recipe.locate(error, &visit));
        };
        let layout = assemble.layout(&sample);
        let (body, made) = match partial.body(&self.recipe, || layout.clone()) {
            Ok(body) => body,
            Err(error) => {
                fail(error);
                return 0;
            }
        };
        // The rows of a batch are allocated together, by whoever is first; where a row's layout does not tell what it
        // takes, each counts for itself.
        let batch_bytes = assemble.row_bytes(&body.layout).map(|row_bytes| match made {
            true => partial.plan.num_rows.saturating_mul(row_bytes as u64),
            false => 0,
        });
        if body.layout == layout {
            let mut chunk = body.rows.claim(row..row + 1);
            assemble.write(&mut chunk, 0, sample);
        } else if self.recipe.fixed_layout.is_some() {
            // The sequence promised a layout: whoever has another one is at fault, be it the first.
            let message = format!("layout {layout:?}, expected {:?} as of every sample of the sequence", body.layout);
            fail(Error::new(ErrorKind::Shape, message));
        } else {
            lock(&partial.troubles).push(Trouble::Stray(row, sample));
            return bytes;
        }
        batch_bytes.unwrap_or(bytes)
    }

    /// The memory of a batch whose layout is known before its first sample.
    fn fixed_bytes(&self, num_rows: u64) -> Option<u64> {
        let recipe = &self.recipe;
        let row_bytes = recipe.assemble.row_bytes(recipe.fixed_layout.as_ref()?)?;
        Some(num_rows.saturating_mul(row_bytes as u64))
    }
}

impl<P: Stage, A: Assemble<P>> Job for BatchJob<P, A> {
    type Partial = Partial<P, A>;
    type Loaded = Loaded<P::Sample>;
    type Output = Outcome<A::Batch>;

    fn num_rows(&self, seq: u64) -> usize {
        self.place(seq).1.num_rows as usize
    }

    fn open(&self, seq: u64) -> Partial<P, A> {
        let recipe = &*self.recipe;
        let (epoch, plan) = self.place(seq);
        let mut cargo = recipe.spares.get();
        let indices = std::mem::take(&mut cargo.indices);
        let ledger = std::mem::take(&mut cargo.ledgers[0]);
        let num_rows = plan.num_rows as usize;
        // Where there is no memory for it, each row says so.
        let body = recipe.fixed_layout.as_ref().map(|layout| recipe.body_for(layout.clone(), num_rows, &mut cargo));
        Partial {
            epoch,
            plan,
            indices: Rows::new(Buffer::new(indices, num_rows, 1).expect("128 MiB at most"), num_rows, ledger),
            body: Eventually::new(body),
            cargo: Mutex::new(cargo),
            troubles: Mutex::new(Vec::new()),
        }
    }

    fn timed_out(&self, seq: u64, row: usize, timeout: Duration) -> Loaded<P::Sample> {
        let (epoch, plan) = self.place(seq);
        let position = plan.first_position + row as u64 * plan.step;
        let mut index = [UNKNOWN];
        // It did not panic when the worker asked, or the sample would not have been loaded at all.
        let drawn = catch_unwind(AssertUnwindSafe(|| self.recipe.plan.fill_indices(epoch, position, &mut index)));
        let [index] = index;
        let visit = self.recipe.visit(epoch, position, index);
        let message = format!("the sample was not there after {timeout:?}");
        let error = Error::new(ErrorKind::Timeout, message);
        let error = match drawn {
            Ok(()) if index < self.recipe.len => self.recipe.locate(error, &visit),
            _ => error.with_place(epoch, position),
        };
        Loaded { index, sample: Err(error) }
    }

    fn place(&self, _: u64, row: usize, partial: &Partial<P, A>, loaded: Loaded<P::Sample>) -> u64 {
        partial.indices.claim(row..row + 1).row(0)[0] = loaded.index;
        let fixed_bytes = self.fixed_bytes(partial.plan.num_rows).map(|bytes| if row == 0 { bytes } else { 0 });
        let bytes = match loaded.sample {
            Ok((sample, bytes)) => self.put(partial, row, loaded.index, sample, bytes),
            Err(error) => {
                partial.fail(row, error);
                0
            }
        };
        fixed_bytes.unwrap_or(bytes)
    }

    fn close(&self, _: u64, partial: Partial<P, A>) -> Outcome<A::Batch> {
        let (epoch, plan) = (partial.epoch, partial.plan);
        #[allow(clippy::let_unit_value, reason = "a guard with the feature `tracing`")]
        let _span = trace::collate(epoch, plan.number);
        // Collation and destructors are the user's.
        catch_unwind(AssertUnwindSafe(|| self.recipe.close(partial))).unwrap_or_else(|payload| {
            let error = Error::panicked(payload).with_place(epoch, plan.first_position);
            Outcome { batch: Err(error), skipped: Vec::new(), num_rows: plan.num_rows }
        })
    }

    fn batch_bytes(&self, output: &Outcome<A::Batch>) -> Option<u64> {
        let Ok(Some(batch)) = &output.batch else { return Some(0) };
        self.recipe.assemble.batch_bytes(batch).map(|bytes| bytes as u64)
    }

    fn size_bytes(&self, seq: u64, row: usize) -> Option<u64> {
        let recipe = &*self.recipe;
        let (epoch, plan) = self.place(seq);
        if let Some(bytes) = self.fixed_bytes(plan.num_rows) {
            return Some(if row == 0 { bytes } else { 0 });
        }
        // Rows that are allocated together, of a size that the first one tells: the largest batch so far stands for
        // them, and the other rows add nothing.
        if recipe.assemble.row_bytes(&recipe.assemble.empty_layout()).is_some() {
            return if row == 0 { None } else { Some(0) };
        }
        let mut index = [0];
        let position = plan.first_position + row as u64 * plan.step;
        let size = catch_unwind(AssertUnwindSafe(|| {
            recipe.plan.fill_indices(epoch, position, &mut index);
            recipe.stage.size_bytes(index[0] as usize)
        }));
        size.ok().flatten().map(|bytes| bytes as u64)
    }
}
