//! Rows whose samples are loaded where they are claimed.

use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use fearless_simd::{Level, Simd, dispatch};

use super::{BatchJob, Loaded};
use crate::batch::assemble::Assemble;
use crate::batch::rows::Columns;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::Gate;
use crate::partial::{BodyOf, Partial, UNKNOWN};
use crate::rng::Visit;
use crate::stage::{Stage, Timer};
use crate::sync::Breaker;
use crate::trace;
use crate::workers::load::LoadJob;
use crate::workers::run::Context;

impl<P: Stage<Input = ()>, A: Assemble<P>> BatchJob<P, A> {
    /// Writes the indices of rows; those that the sampler could not give, or that the sequence does not have, are
    /// errors of their rows.
    fn draw(&self, partial: &Partial<P, A>, rows: Range<usize>, indices: &mut [u64]) {
        let recipe = &self.recipe;
        let first = partial.position(rows.start);
        let drawn = catch_unwind(AssertUnwindSafe(|| recipe.plan.fill_indices(partial.epoch, first, indices)));
        if drawn.is_ok() {
            return;
        }
        // A sampler of the user's that panics for some position: find out for which.
        for (row, index) in rows.zip(indices) {
            let position = partial.position(row);
            let slot = std::slice::from_mut(index);
            let drawn = catch_unwind(AssertUnwindSafe(|| recipe.plan.fill_indices(partial.epoch, position, slot)));
            if let Err(payload) = drawn {
                *index = UNKNOWN;
                partial.fail(row, Error::panicked(payload).with_place(partial.epoch, position));
            }
        }
    }

    /// Tries to load until it succeeds, panics, or was tried often enough.
    fn with_retries<T>(&self, visit: &Visit, breaker: &Breaker, mut load: impl FnMut() -> Result<T>) -> Result<T> {
        let retry = &self.recipe.retry;
        let mut tried = 0;
        loop {
            match catch_unwind(AssertUnwindSafe(&mut load)) {
                Ok(Ok(loaded)) => return Ok(loaded),
                Ok(Err(error)) if tried == retry.num_retries() || breaker.is_broken() => return Err(error),
                Ok(Err(_)) => breaker.pause(retry.pause(tried, visit)),
                Err(payload) => return Err(Error::panicked(payload)),
            }
            tried += 1;
        }
    }

    /// Loads rows of a fixed layout straight into their places.
    fn load_in_place(
        &self,
        partial: &Partial<P, A>,
        body: &BodyOf<P, A>,
        rows: Range<usize>,
        indices: &[u64],
        breaker: &Breaker,
        timer: &mut Timer,
    ) {
        let recipe = &*self.recipe;
        let mut chunk = body.rows.claim(rows.clone());
        // If that panics nobody knows at which sample, and one by one will tell.
        let many = all_below(indices, recipe.len);
        let many = AssertUnwindSafe(|| {
            if many { recipe.assemble.load_many_into(&recipe.stage, indices, &mut chunk, timer) } else { 0 }
        });
        let mut at = catch_unwind(many).unwrap_or(0).min(rows.len());
        while at < rows.len() && !breaker.is_broken() {
            // One `catch_unwind` for as many samples as go well. Which one it is at is noted for when one does not;
            // a cell keeps the count itself out of memory.
            let reached = Cell::new(at);
            let result = catch_unwind(AssertUnwindSafe(|| {
                for (row, &index) in indices.iter().enumerate().skip(at) {
                    reached.set(row);
                    if breaker.is_broken() {
                        return Ok(false);
                    }
                    if index >= recipe.len {
                        return self.out_of_range(index).map_or(Ok(false), Err);
                    }
                    let visit = recipe.visit(partial.epoch, partial.position(rows.start + row), index);
                    recipe.assemble.load_into(&recipe.stage, &visit, (), &mut chunk, row, timer)?;
                }
                Ok(true)
            }));
            at = reached.get();
            let error = match result {
                Ok(Ok(true)) => break,
                Ok(Ok(false)) => continue,
                Ok(Err(error)) => error,
                Err(payload) => Error::panicked(payload),
            };
            let (row, index) = (rows.start + at, indices[at]);
            let visit = self.recipe.visit(partial.epoch, partial.position(row), index);
            if index >= recipe.len {
                // A sampler that panicked for this row has said so already.
                if index != UNKNOWN || !partial.has_failed(row) {
                    partial.fail(row, error.with_place(visit.epoch(), visit.position()).with_index(index));
                }
            } else if let Err(error) = self.retry_in_place(error, &visit, &mut chunk, at, breaker, timer) {
                partial.fail(row, self.recipe.locate(error, &visit));
            }
            at += 1;
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the inside of one loop, kept apart for being rare")]
    #[cold]
    fn retry_in_place(
        &self,
        error: Error,
        visit: &Visit,
        chunk: &mut <A::Columns as Columns>::Chunk<'_>,
        at: usize,
        breaker: &Breaker,
        timer: &mut Timer,
    ) -> Result<()> {
        let recipe = &*self.recipe;
        let mut first = Some(error);
        if recipe.retry.num_retries() == 0 || first.as_ref().is_some_and(|error| error.kind() == ErrorKind::Panic) {
            return first.map_or(Ok(()), Err);
        }
        // The first failure is behind us; the loop takes it as the outcome of its first try.
        self.with_retries(visit, breaker, || match first.take() {
            Some(error) => Err(error),
            None => recipe.assemble.load_into(&recipe.stage, visit, (), chunk, at, timer),
        })
    }

    /// Loads a sample, and says what memory it takes.
    fn load_one(&self, visit: &Visit, breaker: &Breaker, timer: &mut Timer) -> Result<(P::Sample, u64)> {
        let recipe = &*self.recipe;
        self.with_retries(visit, breaker, || {
            let sample = recipe.stage.load(visit, (), timer)?;
            let bytes = recipe.assemble.size_bytes(&sample) as u64;
            Ok((sample, bytes))
        })
    }

    /// Loads rows from `first_row` on. Returns the memory that they take, if it is asked to weigh them.
    fn load_rows(
        &self,
        partial: &Partial<P, A>,
        first_row: usize,
        indices: &[u64],
        context: Context<'_>,
        timer: &mut Timer,
    ) -> u64 {
        let rows = first_row..first_row + indices.len();
        let body = partial.body.get().and_then(|body| body.as_ref().ok());
        let body = body.filter(|_| self.recipe.fixed_layout.is_some());
        let fixed_bytes = self.fixed_bytes(partial.plan.num_rows);
        match body {
            Some(body) if !context.weigh || fixed_bytes.is_some() => {
                self.load_in_place(partial, body, rows, indices, context.breaker, timer);
                // The rows of a batch are allocated together, and count with the first one.
                if first_row == 0 { fixed_bytes.unwrap_or(0) } else { 0 }
            }
            _ => {
                let rows = rows.zip(indices).take_while(|_| !context.breaker.is_broken());
                rows.map(|(row, &index)| self.load_and_put(partial, row, index, context.breaker, timer)).sum()
            }
        }
    }

    /// Loads one row apart and puts it in its place. Returns the memory it takes.
    fn load_and_put(
        &self,
        partial: &Partial<P, A>,
        row: usize,
        index: u64,
        breaker: &Breaker,
        timer: &mut Timer,
    ) -> u64 {
        let visit = self.recipe.visit(partial.epoch, partial.position(row), index);
        if let Some(error) = self.out_of_range(index) {
            if index != UNKNOWN || !partial.has_failed(row) {
                partial.fail(row, error.with_place(visit.epoch(), visit.position()).with_index(index));
            }
            return 0;
        }
        match self.load_one(&visit, breaker, timer) {
            Ok((sample, bytes)) => self.put(partial, row, index, sample, bytes),
            Err(error) => {
                partial.fail(row, self.recipe.locate(error, &visit));
                0
            }
        }
    }
}

impl<P: Stage<Input = ()>, A: Assemble<P>> LoadJob for BatchJob<P, A> {
    fn load(&self, _: u64, rows: Range<usize>, partial: &Partial<P, A>, context: Context<'_>) -> u64 {
        let recipe = &*self.recipe;
        let _pass = recipe.gate.as_ref().map(Gate::pass);
        #[allow(clippy::let_unit_value, reason = "a guard with the feature `tracing`")]
        let _span = trace::load(partial.epoch, partial.plan.number);
        let mut indices = partial.indices.claim(rows.clone());
        let indices = indices.elements();
        self.draw(partial, rows.clone(), indices);
        // The first so many tell how the time is shared among the stages; the clock is not read for the others.
        let num_staged = context.meter.num_staged().min(rows.len());
        let (staged, others) = indices.split_at(num_staged);
        let mut bytes = 0;
        if num_staged > 0 {
            let (mut timer, start) = (Timer::new(true), Instant::now());
            bytes += self.load_rows(partial, rows.start, staged, context, &mut timer);
            context.meter.record_stages(timer.source(), start.elapsed());
        }
        bytes + self.load_rows(partial, rows.start + num_staged, others, context, &mut Timer::new(false))
    }

    fn begin_apart(&self) {
        if let Some(gate) = &self.recipe.gate {
            gate.enter();
        }
    }

    fn load_apart(&self, seq: u64, row: usize, context: Context<'_>) -> Loaded<P::Sample> {
        let (epoch, plan) = self.place(seq);
        #[allow(clippy::let_unit_value, reason = "a guard with the feature `tracing`")]
        let _span = trace::load(epoch, plan.number);
        let position = plan.first_position + row as u64 * plan.step;
        let (index, drawn) = self.draw_one(epoch, position);
        let visit = self.recipe.visit(epoch, position, index);
        let sample = drawn.and_then(|()| {
            let staged = context.meter.num_staged() > 0;
            let (mut timer, start) = (Timer::new(staged), Instant::now());
            let sample = self.load_one(&visit, context.breaker, &mut timer);
            if staged {
                context.meter.record_stages(timer.source(), start.elapsed());
            }
            sample.map_err(|error| self.recipe.locate(error, &visit))
        });
        Loaded { index, sample }
    }

    fn end_apart(&self) {
        if let Some(gate) = &self.recipe.gate {
            gate.leave();
        }
    }
}

/// Whether all of the indices are below a length.
fn all_below(indices: &[u64], len: u64) -> bool {
    dispatch!(Level::new(), simd => all_below_with(simd, indices, len))
}

// Without a branch or a comparison inside, which vectorises on any machine.
#[inline(always)]
fn all_below_with<S: Simd>(_: S, indices: &[u64], len: u64) -> bool {
    const TOP: u64 = 1 << 63;
    // Of numbers below 2^63 a difference that is negative has its highest bit set.
    let beyond = indices.iter().fold(0, |beyond, &index| beyond | index | len.wrapping_sub(1).wrapping_sub(index));
    len > 0 && len <= TOP && beyond & TOP == 0
}

#[cfg(test)]
mod tests {
    use super::all_below;

    #[test]
    fn indices_at_or_beyond_the_length_are_found() {
        const TOP: u64 = 1 << 63;
        for len in [1, 2, 3, 100, TOP - 1, TOP] {
            for index in [0, 1, 2, 3, 99, 100, 101, TOP - 2, TOP - 1, TOP, TOP + 1, u64::MAX - 1, u64::MAX] {
                assert_eq!(all_below(&[0, index, 0], len), index < len, "{index} of {len}");
            }
        }
        assert!(all_below(&[], 5));
        assert!(!all_below(&[0], 0));
    }
}
