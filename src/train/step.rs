//! Passes over a chain of layers whose lock is held, and the threads that share their work.
//!
//! A lock is taken before work goes to the pool, never in it: a thread of the pool that waits for the other half of a
//! product takes up other work meanwhile, and would wait for its own lock if that were to ask for one.

use ndarray::ArrayView2;

use super::input::Targets;
use super::loss::Loss;
use super::metric::Score;
use super::model::Chain;
use super::optim::{Clip, Optimizer, Params};
use super::workspace::{Pass, Workspace};
use crate::{Error, ErrorKind, Result};

/// What a handle of a model runs passes with.
#[derive(Debug)]
pub(super) struct Runner {
    /// How many layers of the chain it runs.
    pub(super) len: usize,
    pub(super) workspace: Workspace,
    /// The number of the next step.
    pub(super) step: u64,
    /// Which of the batches that make one step the next one is, from 0: each has its own dropout masks.
    pub(super) part: u64,
}

/// A step of training under way.
pub(super) struct Step<'s> {
    pub(super) chain: &'s mut Chain,
    pub(super) runner: &'s mut Runner,
    pub(super) loss: &'s dyn Loss,
    /// The threads that share the work.
    pub(super) num_threads: usize,
}

impl Step<'_> {
    /// The loss of a batch in a training pass, with its gradients in the parameters.
    pub(super) fn gradients(&mut self, x: ArrayView2<'_, f32>, targets: Targets<'_>) -> Result<Score> {
        let (runner, loss) = (&mut *self.runner, self.loss);
        let end = self.chain.end_before_loss(runner.len, loss)?;
        let pass = Pass {
            training: true,
            seed: self.chain.seed,
            step: runner.step,
            part: runner.part,
            num_threads: self.num_threads,
        };
        let layers = &mut self.chain.layers[..end];
        runner.workspace.forward(layers, x, pass, true)?;
        let (outputs, gradient) = runner.workspace.output_and_gradient(end - 1);
        let value = finite(loss.loss(outputs, targets, Some(gradient))?, runner.step)?;
        let score = score(loss, value, outputs, targets);
        runner.workspace.backward(layers, x, pass)?;
        Ok(score)
    }

    /// The trained parameters.
    pub(super) fn params(&mut self) -> Params<'_> {
        Params::new(&mut self.chain.layers[..self.runner.len], self.num_threads)
    }

    /// Clips the gradients, and returns the norm that they had.
    pub(super) fn clip(&mut self, clip: Clip) -> Result<f64> {
        let step = self.runner.step;
        clip.apply(&mut self.params()).map_err(|error| error.with_detail(format_args!(" at step {step}")))
    }

    /// Lets the optimiser update the parameters, and counts a step.
    pub(super) fn apply(&mut self, optimizer: &mut dyn Optimizer) -> Result<()> {
        optimizer.step(&mut self.params())?;
        self.runner.step += 1;
        self.runner.part = 0;
        Ok(())
    }
}

impl Runner {
    /// Runs the layers before the loss in inference, and returns the loss and the number of layers that were run.
    pub(super) fn evaluate(
        &mut self,
        chain: &Chain,
        loss: &dyn Loss,
        x: ArrayView2<'_, f32>,
        targets: Targets<'_>,
        num_threads: usize,
    ) -> Result<(Score, usize)> {
        let end = chain.end_before_loss(self.len, loss)?;
        self.infer(chain, end, x, num_threads)?;
        let outputs = self.workspace.output(end - 1);
        let value = finite(loss.loss(outputs, targets, None)?, self.step)?;
        Ok((score(loss, value, outputs, targets), end))
    }

    /// Runs the first layers in inference.
    pub(super) fn infer(
        &mut self,
        chain: &Chain,
        len: usize,
        x: ArrayView2<'_, f32>,
        num_threads: usize,
    ) -> Result<()> {
        let pass = Pass { training: false, seed: chain.seed, step: self.step, part: 0, num_threads };
        self.workspace.forward(&chain.layers[..len], x, pass, true)
    }
}

fn score(loss: &dyn Loss, value: f32, outputs: ArrayView2<'_, f32>, targets: Targets<'_>) -> Score {
    Score { loss: value, samples: targets.num_samples(), correct: loss.count_correct(outputs, targets) }
}

fn finite(loss: f32, step: u64) -> Result<f32> {
    if loss.is_finite() {
        return Ok(loss);
    }
    Err(Error::new(ErrorKind::Numeric, format!("the loss is {loss} at step {step}")))
}
