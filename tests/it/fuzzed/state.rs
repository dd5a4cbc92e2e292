//! Any text taken for a state is one or an error, a state survives its text, and a resume from any state, however
//! made up, goes on or is refused: it neither panics nor hangs.

use procession::{InOrder, Loader, Sampler, Shuffle, State, Tail, World};

/// How much of what a resume yields is looked at: it may be endless.
const NUM_EPOCHS: usize = 3;
const NUM_BATCHES: usize = 8;

pub(crate) fn check(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        match text.parse::<State>() {
            Ok(state) => {
                survives(&state);
                resume(bytes, Some(&state));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    #[cfg(feature = "serde")]
    if let Ok(state) = serde_json::from_slice::<State>(bytes) {
        let json = serde_json::to_string(&state).expect("a state is plain data");
        assert_eq!(serde_json::from_str::<State>(&json).expect("a state survives JSON"), state);
        survives(&state);
        resume(bytes, Some(&state));
    }
    resume(bytes, None);
}

fn survives(state: &State) {
    let text = state.to_string();
    let again: State = text.parse().unwrap_or_else(|error| panic!("{error} in {text:?}"));
    assert_eq!((&again, again.to_string()), (state, text));
}

/// Reads numbers off the input; missing bytes are zero.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn byte(&mut self) -> u64 {
        let (byte, rest) = self.0.split_first().map_or((0, self.0), |(byte, rest)| (u64::from(*byte), rest));
        self.0 = rest;
        byte
    }

    /// A number that is small, or next to a limit, or anything.
    fn number(&mut self) -> u64 {
        match self.byte() {
            kind @ 0..128 => kind,
            kind @ 128..160 => u64::MAX - (kind - 128),
            kind @ 160..192 => (1 << 63) - (kind - 160),
            kind @ 192..224 => 1_u64.rotate_left((kind - 192) as u32 * 2) + self.byte(),
            _ => (0..8).fold(0, |number, _| number << 8 | self.byte()),
        }
    }
}

/// Resumes a loader from a state, or from one made of the bytes; then, should it fit, looks at what comes.
fn resume(bytes: &[u8], state: Option<&State>) {
    let mut numbers = Numbers(bytes);
    let kind = numbers.byte();
    let len = numbers.byte() as usize;
    let batch_size = 1 + numbers.byte() % 40;
    let tail = [Tail::Keep, Tail::Drop, Tail::Pad][(kind % 3) as usize];
    let size = 1 + (kind >> 2 & 3) as u32;
    let seed = numbers.byte();
    let shuffled = kind & 16 != 0;
    let builder = Loader::builder((0..len as u64).collect::<Vec<_>>())
        .batch_size(batch_size as usize)
        .tail(tail)
        .seed(seed)
        .world(World::new(numbers.byte() as u32 % size, size).expect("the rank is below the size"))
        .workers((kind >> 5 & 1) as usize);
    let builder = if shuffled { builder.shuffle(seed).seed(seed) } else { builder };
    let loader = builder.build().expect("the options are sound");
    let sampler =
        if shuffled { Shuffle::new(len as u64, seed).describe() } else { InOrder::new(len as u64).describe() };
    let made_up = State {
        seed,
        epoch: numbers.number(),
        next_batch: numbers.number(),
        next_position: numbers.number(),
        num_positions: len as u64,
        batch_size: if kind & 64 != 0 { batch_size } else { numbers.number() },
        tail,
        sampler,
    };
    let state = state.unwrap_or(&made_up);
    let start = if kind & 128 != 0 { state.epoch } else { 0 };
    for end in [None, Some(start.saturating_add(2))] {
        for rebatched in [false, true] {
            let epochs = match end {
                None => loader.epochs(start..),
                Some(end) => loader.epochs(start..end),
            };
            let resumed = if rebatched { epochs.resume_rebatched(state) } else { epochs.resume(state) };
            let Ok(epochs) = resumed else { continue };
            let before = epochs.state();
            assert_eq!((before.epoch, before.seed), (state.epoch, state.seed));
            for mut epoch in epochs.take(NUM_EPOCHS) {
                let num_batches = epoch.num_batches_left();
                assert!(num_batches <= len as u64, "{num_batches} batches of {len} samples");
                for batch in (&mut epoch).take(NUM_BATCHES) {
                    let batch = batch.expect("the sequence cannot fail");
                    let data: Vec<u64> = batch.to_vec();
                    assert_eq!(data, batch.indices());
                }
                survives(&epoch.state());
            }
        }
    }
}
