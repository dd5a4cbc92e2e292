//! Learning rates that change from step to step.

use std::f64::consts::PI;

use crate::{Error, Result};

/// The learning rate as a function of the number of the step, from 0, and of nothing else.
///
/// Each starts as a constant rate; [`warm_up`](Self::warm_up) goes before any of them.
///
/// # Examples
///
/// ```
/// use procession::train::Schedule;
///
/// let schedule = Schedule::cosine(0.1, 1_000).warm_up(100, 0.01);
/// assert_eq!(schedule.rate(0), 0.001);
/// assert_eq!(schedule.rate(100), 0.1);
/// assert_eq!(schedule.rate(600), 0.05);
/// assert_eq!(schedule.rate(5_000), 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    shape: Shape,
    warm_up: u64,
    warm_up_start: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Constant { rate: f64 },
    Cosine { rate: f64, steps: u64, end: f64 },
    Step { rate: f64, every: u64, factor: f64 },
    OneCycle { rate: f64, steps: u64, rise: f64, start_divisor: f64, end_divisor: f64 },
}

impl Schedule {
    fn new(shape: Shape) -> Self {
        Self { shape, warm_up: 0, warm_up_start: 0.0 }
    }

    /// The same rate in every step.
    pub fn constant(rate: f64) -> Self {
        Self::new(Shape::Constant { rate })
    }

    /// From `rate` down to 0 along half a cosine, `rate / 2 (1 + cos(pi s / steps))` in step `s`, and 0 from step
    /// `steps` on.
    ///
    /// Source: Loshchilov and Hutter, *SGDR: stochastic gradient descent with warm restarts*, ICLR 2017, without
    /// restarts; PyTorch's `CosineAnnealingLR`, Keras's `CosineDecay`.
    pub fn cosine(rate: f64, steps: u64) -> Self {
        Self::new(Shape::Cosine { rate, steps, end: 0.0 })
    }

    /// `rate factor^floor(s / every)` in step `s`; PyTorch's `StepLR`.
    pub fn step(rate: f64, every: u64, factor: f64) -> Self {
        Self::new(Shape::Step { rate, every, factor })
    }

    /// From `rate / 25` up to `rate` in the first 30 % of the steps and down to `rate / 250,000`, each along half a
    /// cosine; the last rate from step `steps` on.
    ///
    /// Source: Smith and Topin, *Super-convergence*, 2018, with the numbers and the cosines of PyTorch's `OneCycleLR`.
    pub fn one_cycle(rate: f64, steps: u64) -> Self {
        Self::new(Shape::OneCycle { rate, steps, rise: 0.3, start_divisor: 25.0, end_divisor: 1e4 })
    }

    /// The rate at the end of a cosine, instead of 0. It has no effect on other schedules.
    #[must_use]
    pub fn end(mut self, rate: f64) -> Self {
        if let Shape::Cosine { end, .. } = &mut self.shape {
            *end = rate;
        }
        self
    }

    /// Rises to the schedule's first rate in so many steps before it begins: `start + (1 - start) s / steps` of that
    /// rate in step `s`. The schedule itself is then put off by `steps`.
    ///
    /// Source: Goyal et al., *Accurate, large minibatch SGD*, 2017, section 2.2; PyTorch's `LinearLR`. A `start` of 0
    /// makes the first step do nothing.
    #[must_use]
    pub fn warm_up(mut self, steps: u64, start: f64) -> Self {
        (self.warm_up, self.warm_up_start) = (steps, start);
        self
    }

    /// The rate of step `s`, from 0.
    pub fn rate(&self, s: u64) -> f64 {
        match s.checked_sub(self.warm_up) {
            Some(s) => self.shape.rate(s),
            None => {
                let start = self.warm_up_start;
                self.shape.rate(0) * (start + (1.0 - start) * s as f64 / self.warm_up as f64)
            }
        }
    }

    pub(in crate::train) fn check(&self) -> Result<()> {
        let sound = match self.shape {
            Shape::Constant { rate } => is_rate(rate),
            Shape::Cosine { rate, steps, end } => is_rate(rate) && is_rate(end) && steps > 0,
            Shape::Step { rate, every, factor } => is_rate(rate) && every > 0 && is_rate(factor),
            Shape::OneCycle { rate, steps, .. } => is_rate(rate) && steps > 1,
        };
        if sound && (0.0..=1.0).contains(&self.warm_up_start) {
            return Ok(());
        }
        Err(Error::argument(format!(
            "schedule {self:?}, expected rates of at least 0, at least 1 step (2 of a cycle), and a warm-up from a part \
             of 0 to 1"
        )))
    }
}

fn is_rate(rate: f64) -> bool {
    rate >= 0.0 && rate.is_finite()
}

impl Shape {
    fn rate(self, s: u64) -> f64 {
        match self {
            Self::Constant { rate } => rate,
            Self::Cosine { rate, steps, end } => between(rate, end, s as f64 / steps as f64),
            Self::Step { rate, every, factor } => rate * factor.powf((s / every) as f64),
            Self::OneCycle { rate, steps, rise, start_divisor, end_divisor } => {
                let start = rate / start_divisor;
                // PyTorch's convention: the top is at the last step of the first part.
                let (top, last) = (rise * steps as f64 - 1.0, steps as f64 - 1.0);
                let s = s as f64;
                if s <= top {
                    between(start, rate, s / top)
                } else {
                    between(rate, start / end_divisor, (s - top) / (last - top))
                }
            }
        }
    }
}

/// From one rate to another along half a cosine; the part of the way is cut off at 1.
fn between(from: f64, to: f64, part: f64) -> f64 {
    if part >= 1.0 {
        return to;
    }
    to + (from - to) / 2.0 * (1.0 + (PI * part).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    #[test]
    fn each_shape_passes_through_its_points() {
        let constant = Schedule::constant(0.3);
        assert_eq!((constant.rate(0), constant.rate(u64::MAX)), (0.3, 0.3));
        let cosine = Schedule::cosine(1.0, 8).end(0.5);
        for (s, expected) in [(0, 1.0), (2, 0.75 + 0.25 * 0.5_f64.sqrt()), (4, 0.75), (8, 0.5), (9, 0.5)] {
            near(cosine.rate(s), expected);
        }
        let step = Schedule::step(1.0, 3, 0.5);
        assert_eq!([0, 2, 3, 5, 6].map(|s| step.rate(s)), [1.0, 1.0, 0.5, 0.5, 0.25]);
        let cycle = Schedule::one_cycle(1.0, 20);
        for (s, expected) in [(0, 0.04), (5, 1.0), (12, (1.0 + 4e-6) / 2.0), (19, 4e-6), (100, 4e-6)] {
            near(cycle.rate(s), expected);
        }
    }

    #[test]
    fn a_warm_up_goes_before() {
        let schedule = Schedule::step(1.0, 2, 0.5).warm_up(4, 0.25);
        assert_eq!([0, 1, 2, 3].map(|s| schedule.rate(s)), [0.25, 0.4375, 0.625, 0.8125]);
        assert_eq!([4, 5, 6].map(|s| schedule.rate(s)), [1.0, 1.0, 0.5]);
        assert_eq!(Schedule::constant(1.0).end(0.1).warm_up(0, 0.0).rate(0), 1.0);
    }

    #[test]
    fn nonsense_is_refused() {
        for schedule in [
            Schedule::constant(f64::NAN),
            Schedule::constant(-1.0),
            Schedule::cosine(0.1, 0),
            Schedule::cosine(0.1, 10).end(f64::INFINITY),
            Schedule::step(0.1, 0, 0.5),
            Schedule::step(0.1, 3, -0.5),
            Schedule::one_cycle(0.1, 1),
            Schedule::constant(0.1).warm_up(5, -1.0),
        ] {
            assert!(schedule.check().is_err(), "{schedule:?}");
        }
        assert!(Schedule::one_cycle(0.1, 2).check().is_ok());
    }
}
