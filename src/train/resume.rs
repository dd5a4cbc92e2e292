//! How a trainer is saved, and goes on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::average::Average;
use super::callback::{Callback, CallbackState};
use super::checkpoint::{AverageMeta, CallbackMeta, Checkpoint, Meta, view};
use super::optim::OptimizerState;
use super::trainer::Trainer;
use crate::file::replace_file;
use crate::{Error, ErrorKind, Result, State};

/// Where a training goes on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resumed {
    /// Where the loader was, to be given to [`Epochs::resume`](crate::Epochs::resume).
    pub state: State,
    /// The checkpoint's file.
    pub file: PathBuf,
    /// Why each newer file was not taken, newest first.
    pub refused: Vec<Error>,
}

impl Trainer {
    /// Saves a checkpoint: all that is needed to go on from here, with the loader's state.
    ///
    /// # Errors
    ///
    /// If batches are accumulated that did not make a step yet, an average is applied, a weight is not finite, the file
    /// cannot be written, or from within [`fit`](Self::fit), which keeps [`checkpoints`](Self::checkpoints) itself.
    ///
    /// # Cost
    ///
    /// All arrays are copied three times on the way to the file.
    pub fn save(&self, path: impl AsRef<Path>, state: &State) -> Result<()> {
        self.check_idle()?;
        replace_file(path, &self.checkpoint_bytes(state, &self.callbacks)?)
    }

    /// Goes on from a checkpoint. The model, the optimiser, the schedule, the averages and the callbacks must have been
    /// made as those that it was saved from. The learning rate is the checkpoint's, which a callback may have set.
    ///
    /// The next [`fit`](Self::fit) has to go on where the checkpoint was ([`Epochs::resume`](crate::Epochs::resume) with its
    /// [`state`](Checkpoint::state)), or with the epoch after one that was complete. If the checkpoint was read from the
    /// directory of [`checkpoints`](Self::checkpoints), those of later steps there are given up.
    ///
    /// # Errors
    ///
    /// Of kind [`State`](ErrorKind::State) if anything differs, saying what and how; of other kinds if an average is
    /// applied, or an average or the optimiser is another model's. Nothing is changed then.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.check(checkpoint)?;
        let meta = &checkpoint.meta;
        let mut shapes = Vec::new();
        self.model.for_each_param(|name, param| {
            shapes.push((name.to_owned(), param.shape().to_vec(), param.is_trainable()));
        });
        let arrays_of = |prefix: &str, trained_only: bool| {
            let shapes = shapes.iter().filter(|(_, _, trained)| *trained || !trained_only);
            shapes
                .map(|(name, shape, _)| checkpoint.array(&format!("{prefix}{name}"), shape))
                .collect::<Result<Vec<_>>>()
        };
        // All that can fail comes before anything is changed.
        let weights = arrays_of("model/", false)?;
        if let Some(name) = checkpoint.arrays.keys().find(|name| {
            let param = name.strip_prefix("model/");
            param.is_some_and(|param| !shapes.iter().any(|(name, ..)| name == param))
        }) {
            let message =
                format!("the checkpoint does not fit: it has an array {name}, of which the model knows nothing");
            return Err(Error::new(ErrorKind::State, message));
        }
        let averages = self.averages.iter().map(|(name, _)| arrays_of(&format!("average/{name}/"), true));
        let averages = averages.collect::<Result<Vec<_>>>()?;
        let mut state = OptimizerState { steps: meta.optimizer_steps, arrays: Vec::new() };
        for (name, _) in self.optimizer.state().arrays {
            let mut slots = Vec::new();
            if meta.optimizer_arrays.iter().any(|saved| saved == name) {
                slots = arrays_of(&format!("optimizer/{name}/"), true)?.into_iter().map(<[f32]>::to_vec).collect();
            }
            state.arrays.push((name, slots.into()));
        }
        let mut callback_states = Vec::new();
        for (number, saved) in meta.callbacks.iter().enumerate() {
            let array = |(at, name): (usize, &String)| {
                let full_name = format!("callback/{number}/{at}/{name}");
                let array = checkpoint.arrays.get(&full_name).and_then(|array| array.as_slice());
                let missing = || Error::new(ErrorKind::State, format!("the checkpoint has no array {full_name}"));
                Ok((name.clone(), array.ok_or_else(missing)?.to_vec()))
            };
            let arrays = saved.arrays.iter().enumerate().map(array).collect::<Result<Vec<_>>>()?;
            callback_states.push(CallbackState { text: saved.text.clone(), arrays });
        }
        let callbacks_before: Vec<CallbackState> = named(&self.callbacks).map(|callback| callback.state()).collect();
        let optimizer_before = self.optimizer.state().into_owned();
        let mut set = self.optimizer.set_state(state);
        for (callback, state) in named_mut(&mut self.callbacks).zip(callback_states) {
            set = set.and_then(|()| callback.set_state(state));
        }
        if let Err(error) = set {
            // What has taken a new state takes its old one; what has refused it still has that.
            let _ = self.optimizer.set_state(optimizer_before);
            for (callback, state) in named_mut(&mut self.callbacks).zip(callbacks_before) {
                let _ = callback.set_state(state);
            }
            return Err(error);
        }
        self.optimizer.set_learning_rate(meta.learning_rate as f32);
        let mut weights = weights.into_iter();
        self.model.for_each_param_mut(|_, param| {
            param.values_mut().copy_from_slice(weights.next().expect("each parameter has its array"));
        })?;
        self.model.set_step(meta.step);
        for (((_, average), values), saved) in self.averages.iter_mut().zip(averages).zip(&meta.averages) {
            average.set_parts(values.into_iter(), saved.counts)?;
        }
        self.forget_rest();
        self.history = meta.history.clone();
        self.progress = meta.progress;
        self.resumed = Some(checkpoint.state.clone());
        if let Some(checkpoints) = &mut self.checkpoints {
            let dir = checkpoint.file.as_deref().and_then(Path::parent);
            checkpoints.ours |= dir == Some(checkpoints.dir.path());
        }
        Ok(())
    }

    /// Goes on from the newest checkpoint that is whole, of those that this trainer keeps
    /// ([`checkpoints`](Self::checkpoints)); none if there are none.
    ///
    /// # Errors
    ///
    /// As [`CheckpointDir::latest`](super::CheckpointDir::latest) and [`resume`](Self::resume), or if no checkpoints are kept.
    pub fn resume_latest(&mut self) -> Result<Option<Resumed>> {
        let Some(checkpoints) = &self.checkpoints else {
            return Err(Error::argument("no directory of checkpoints to resume from"));
        };
        let Some(latest) = checkpoints.dir.latest()? else { return Ok(None) };
        self.resume(&latest.checkpoint).map_err(|error| error.with_file(&latest.file))?;
        Ok(Some(Resumed { state: latest.checkpoint.state, file: latest.file, refused: latest.refused }))
    }

    pub(super) fn check_idle(&self) -> Result<()> {
        if self.is_fitting {
            return Err(Error::argument("a callback saves, resumes or fits the trainer that calls it"));
        }
        Ok(())
    }

    /// Says what differs if a checkpoint does not fit.
    fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.check_idle()?;
        self.model.shared().read().check_raw()?;
        let (saved, own) = (&checkpoint.meta, self.meta(&checkpoint.state, &self.callbacks)?);
        let names = |meta: &Meta| meta.callbacks.iter().map(|callback| callback.name.clone()).collect::<Vec<_>>();
        let averages = |meta: &Meta| {
            meta.averages.iter().map(|average| format!("{} {}", average.name, average.options)).collect::<Vec<_>>()
        };
        let text = |list: Vec<String>| if list.is_empty() { "none".to_owned() } else { list.join("; ") };
        let mut differences = Vec::new();
        for (what, saved, own) in [
            ("model", &saved.model, &own.model),
            ("loss", &saved.loss, &own.loss),
            ("seed", &saved.seed.to_string(), &own.seed.to_string()),
            ("optimiser", &saved.optimizer, &own.optimizer),
            ("schedule", &saved.schedule, &own.schedule),
            ("clipping", &saved.clip, &own.clip),
            ("accumulated batches", &saved.accumulate.to_string(), &own.accumulate.to_string()),
            ("averages", &text(averages(saved)), &text(averages(&own))),
            ("callbacks", &text(names(saved)), &text(names(&own))),
        ] {
            if saved != own {
                differences.push(format!("{what} {saved} in the checkpoint but {own} in the trainer"));
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        let message = format!("the checkpoint does not fit: {}", differences.join("; "));
        Err(Error::new(ErrorKind::State, message))
    }

    /// All of a checkpoint but its arrays.
    fn meta(&self, state: &State, callbacks: &[Box<dyn Callback>]) -> Result<Meta> {
        let optimizer = self.optimizer.state();
        self.check_sizes(&optimizer)?;
        let average = |(name, average): &(String, Average)| {
            let (options, counts) = (format!("{:?}", average.options()), average.parts()?.1);
            Ok(AverageMeta { name: name.clone(), options, counts })
        };
        let callback = |callback: &dyn Callback| {
            let CallbackState { text, arrays } = callback.state();
            let arrays = arrays.into_iter().map(|(name, _)| name).collect();
            CallbackMeta { name: callback.name(), text, arrays }
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        Ok(Meta {
            version: Meta::VERSION,
            model: self.model.summary().describe(),
            loss: format!("{:?}", self.model.loss()),
            optimizer: self.optimizer.describe(),
            schedule: or_none(self.schedule.map(|schedule| format!("{schedule:?}"))),
            clip: or_none(self.clip.map(|clip| format!("{clip:?}"))),
            accumulate: self.accumulated.every,
            seed: self.model.seed(),
            step: self.model.step(),
            learning_rate: f64::from(self.optimizer.learning_rate()),
            optimizer_steps: optimizer.steps,
            optimizer_arrays: optimizer
                .arrays
                .iter()
                .filter(|(_, slots)| !slots.is_empty())
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            averages: self.averages.iter().map(average).collect::<Result<Vec<_>>>()?,
            loader: state.to_string(),
            progress: self.progress,
            history: self.history.clone(),
            callbacks: named(callbacks).map(callback).collect(),
        })
    }

    /// Refuses averages and optimisers of another model, as there may be when the model was replaced.
    fn check_sizes(&self, optimizer: &OptimizerState<'_>) -> Result<()> {
        self.averages.iter().try_for_each(|(_, average)| average.check_model(&self.model))?;
        let mut sizes = Vec::new();
        self.model.for_each_param(|_, param| {
            if param.is_trainable() {
                sizes.push(param.len());
            }
        });
        let fits = |slots: &[Vec<f32>]| slots.is_empty() || slots.iter().map(Vec::len).eq(sizes.iter().copied());
        if optimizer.arrays.iter().all(|(_, slots)| fits(slots)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Shape, "the optimiser has the state of a model of another shape"))
    }

    fn checkpoint_bytes(&self, state: &State, callbacks: &[Box<dyn Callback>]) -> Result<Vec<u8>> {
        if self.accumulated.batches > 0 {
            let message =
                format!("{} batches are accumulated: a checkpoint is made between steps", self.accumulated.batches);
            return Err(Error::argument(message));
        }
        self.model.shared().read().check_raw()?;
        let meta = self.meta(state, callbacks)?;
        let mut arrays: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        let (mut shapes, mut kept, optimizer) = (Vec::new(), HashSet::new(), self.optimizer.state());
        self.model.for_each_param(|name, param| {
            arrays.push((format!("model/{name}"), param.shape().to_vec(), param.values().to_vec()));
            if param.is_trainable() {
                shapes.push((name.to_owned(), param.shape().to_vec()));
            } else {
                kept.insert(format!("model/{name}"));
            }
        });
        let mut add = |prefix: String, slots: &[Vec<f32>]| {
            for ((name, shape), values) in shapes.iter().zip(slots) {
                arrays.push((format!("{prefix}/{name}"), shape.clone(), values.clone()));
            }
        };
        optimizer.arrays.iter().for_each(|(name, slots)| add(format!("optimizer/{name}"), slots));
        for (name, average) in &self.averages {
            add(format!("average/{name}"), average.parts()?.0);
        }
        for (number, callback) in named(callbacks).enumerate() {
            for (at, (name, values)) in callback.state().arrays.into_iter().enumerate() {
                arrays.push((format!("callback/{number}/{at}/{name}"), vec![values.len()], values));
            }
        }
        check_arrays(&arrays, &kept, self.model.step())?;
        let views = arrays.iter().map(|(name, shape, values)| (name.as_str(), view(shape, values)));
        Checkpoint::bytes(&meta, views)
    }

    /// Refuses to put checkpoints beside those of another training, which would be removed.
    pub(super) fn check_checkpoints(&mut self) -> Result<()> {
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        if !checkpoints.ours && !checkpoints.dir.is_empty()? {
            let message = "the directory has checkpoints of another training: resume it, or take another directory";
            return Err(Error::new(ErrorKind::State, message).with_file(checkpoints.dir.path()));
        }
        checkpoints.ours = true;
        Ok(())
    }

    /// Whether a checkpoint is due after the step that was made.
    pub(super) fn checkpoint_is_due(&self) -> bool {
        let every = self.checkpoints.as_ref().and_then(|checkpoints| checkpoints.every);
        every.is_some_and(|every| self.model.step().is_multiple_of(every))
    }

    /// Saves a checkpoint in the directory, if there is one.
    pub(super) fn keep_checkpoint(&self, state: &State, callbacks: &[Box<dyn Callback>]) -> Result<()> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        checkpoints.dir.save(self.model.step(), &self.checkpoint_bytes(state, callbacks)?)?;
        Ok(())
    }
}

/// Refuses what could not be gone on from: weights and averages that are not finite (the loss was, when the gradients no
/// longer were), and two arrays of one name.
fn check_arrays(arrays: &[(String, Vec<usize>, Vec<f32>)], kept: &HashSet<String>, step: u64) -> Result<()> {
    let mut names = HashSet::new();
    for (name, _, values) in arrays {
        if !names.insert(name.as_str()) {
            return Err(Error::argument(format!("two arrays of a checkpoint are named {name}")));
        }
        let is_weight = (name.starts_with("model/") || name.starts_with("average/")) && !kept.contains(name);
        if let Some(value) = values.iter().find(|value| is_weight && !value.is_finite()) {
            let message = format!("{name} has a value of {value} after {step} steps: no checkpoint is made of it");
            return Err(Error::new(ErrorKind::Numeric, message));
        }
    }
    Ok(())
}

/// The callbacks that a checkpoint knows.
fn named(callbacks: &[Box<dyn Callback>]) -> impl Iterator<Item = &dyn Callback> {
    callbacks.iter().map(|callback| &**callback).filter(|callback| !callback.name().is_empty())
}

fn named_mut(callbacks: &mut [Box<dyn Callback>]) -> impl Iterator<Item = &mut Box<dyn Callback>> {
    callbacks.iter_mut().filter(|callback| !callback.name().is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::{Adam, Model};
    use super::*;

    #[test]
    fn an_array_of_a_layer_that_the_model_lacks_is_refused() {
        let trainer = || Trainer::new(Model::builder(2).dense("d", 2).build().unwrap(), Adam::default());
        let loader = crate::Loader::builder(vec![0_u32; 4]).workers(0).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        trainer().save(&path, &loader.state(0)).unwrap();
        let mut checkpoint = Checkpoint::read(&path).unwrap();
        trainer().resume(&checkpoint).unwrap();
        // As a layer of the user's own leaves behind that had more parameters under the same description.
        checkpoint.arrays.insert("model/d/scale".to_owned(), ndarray::ArrayD::zeros(vec![2]));
        let error = trainer().resume(&checkpoint).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        assert!(error.to_string().contains("it has an array model/d/scale"), "{error}");
    }

    #[test]
    fn only_weights_and_averages_have_to_be_finite() {
        let check = |name: &str, value: f32| {
            let kept = HashSet::from(["model/norm/mean".to_owned()]);
            check_arrays(&[(name.to_owned(), vec![1], vec![value])], &kept, 3)
        };
        for name in ["model/d/kernel", "average/a/d/kernel"] {
            assert!(check(name, 1.0).is_ok());
            assert_eq!(check(name, f32::INFINITY).unwrap_err().kind(), ErrorKind::Numeric);
        }
        // The best loss that a callback has seen is infinite at first, and moving statistics are not trained.
        for name in ["callback/0/0/best", "optimizer/v/d/kernel", "model/norm/mean"] {
            assert!(check(name, f32::INFINITY).is_ok(), "{name}");
        }
    }
}
