//! Initial values of weights.

use super::stream::Stream;

/// How the weights of a layer start.
///
/// `inputs` and `outputs` are the numbers of rows and columns of the kernel. The normal forms are cut off at two
/// standard deviations and keep the stated variance, as in Keras.
///
/// Sources: Glorot and Bengio, *Understanding the difficulty of training deep feedforward neural networks*, AISTATS
/// 2010; He, Zhang, Ren and Sun, *Delving deep into rectifiers*, ICCV 2015 (fan-in form).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Init {
    /// Uniform in `±sqrt(6 / (inputs + outputs))`. The default, as in Keras.
    #[default]
    GlorotUniform,
    /// Normal with variance `2 / (inputs + outputs)`.
    GlorotNormal,
    /// Uniform in `±sqrt(6 / inputs)`, for layers before a ReLU.
    HeUniform,
    /// Normal with variance `2 / inputs`, for layers before a ReLU.
    HeNormal,
    /// All the same number.
    Constant(f32),
}

impl Init {
    /// `inputs * outputs` values, row by row.
    ///
    /// The result is a function of the arguments and of where the stream stands.
    pub fn values(self, inputs: usize, outputs: usize, stream: &mut Stream) -> Vec<f32> {
        let number = inputs * outputs;
        let (fan_in, fan_sum) = (inputs.max(1) as f64, (inputs + outputs).max(1) as f64);
        match self {
            Self::GlorotUniform => uniform(number, (6.0 / fan_sum).sqrt(), stream),
            Self::HeUniform => uniform(number, (6.0 / fan_in).sqrt(), stream),
            Self::GlorotNormal => normal(number, (2.0 / fan_sum).sqrt(), stream),
            Self::HeNormal => normal(number, (2.0 / fan_in).sqrt(), stream),
            Self::Constant(value) => vec![value; number],
        }
    }
}

fn uniform(number: usize, limit: f64, stream: &mut Stream) -> Vec<f32> {
    let limit = limit as f32;
    (0..number).map(|_| limit * (2.0 * stream.uniform_f32() - 1.0)).collect()
}

fn normal(number: usize, std: f64, stream: &mut Stream) -> Vec<f32> {
    let std = std as f32;
    (0..number).map(|_| std * stream.truncated_normal()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::stream::stream;
    use super::*;

    #[test]
    fn each_form_has_its_variance() {
        let (inputs, outputs) = (300, 100);
        let cases = [
            (Init::GlorotUniform, 2.0 / 400.0),
            (Init::GlorotNormal, 2.0 / 400.0),
            (Init::HeUniform, 2.0 / 300.0),
            (Init::HeNormal, 2.0 / 300.0),
        ];
        for (init, expected) in cases {
            let values = init.values(inputs, outputs, &mut stream(1, &[]));
            let variance = values.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>() / values.len() as f64;
            // 30,000 values: the standard error of the variance is below 0.9 %.
            assert!((variance / expected - 1.0).abs() < 0.04, "{init:?}: {variance}, expected {expected}");
        }
    }

    #[test]
    fn the_seed_decides() {
        let values = |seed| Init::HeNormal.values(5, 3, &mut stream(seed, &[]));
        assert_eq!(values(1), values(1));
        assert_ne!(values(1), values(2));
    }
}
