//! A model as a table.

use std::fmt;

use super::model::Chain;

/// A model's layers as a table; its `Display` is what `summary` prints.
///
/// Shapes are those of a batch: `(batch, width)`.
///
/// # Examples
///
/// ```
/// use procession::train::Model;
///
/// let model = Model::builder([28, 28])
///     .flatten("flatten")
///     .dense("hidden", 512)
///     .batch_norm("norm")
///     .relu("relu")
///     .dense("logits", 10)
///     .build()?;
/// let expected = "\
/// layer    kind       output           parameters
/// input    -          (batch, 28, 28)           0
/// flatten  Flatten    (batch, 784)              0
/// hidden   Dense      (batch, 512)        401,920
/// norm     BatchNorm  (batch, 512)          2,048
/// relu     Relu       (batch, 512)              0
/// logits   Dense      (batch, 10)           5,130
/// total                                   409,098
/// of them not trained                       1,024
/// ";
/// assert_eq!(model.summary().to_string(), expected);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    input_shape: Vec<usize>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    name: String,
    kind: String,
    /// The kind with the options.
    description: String,
    width: usize,
    params: usize,
    /// Of `params`, those that are not trained.
    kept: usize,
}

impl Summary {
    pub(super) fn new(input_shape: &[usize], chain: &Chain, len: usize) -> Self {
        let rows = chain.layers[..len].iter().map(|named| {
            let (mut params, mut kept) = (0, 0);
            named.layer.visit_params(&mut |param| {
                params += param.len();
                kept += if param.is_trainable() { 0 } else { param.len() };
            });
            let (kind, description) = (named.layer.kind().to_owned(), named.layer.describe());
            Row { name: named.name.clone(), kind, description, width: named.width, params, kept }
        });
        Self { input_shape: input_shape.to_vec(), rows: rows.collect() }
    }

    /// Names, kinds, options and widths in one line, to tell whether two models are alike.
    pub(super) fn describe(&self) -> String {
        let layers = self.rows.iter().map(|row| format!("{}:{}:{}", row.name, row.description, row.width));
        format!("{:?} {}", self.input_shape, layers.collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.rows.iter().map(|row| row.params).sum();
        let kept: usize = self.rows.iter().map(|row| row.kept).sum();
        let cells = |name: &str, kind: &str, shape: &str, params: &str| [name, kind, shape, params].map(str::to_owned);
        let input: String = self.input_shape.iter().map(|extent| format!(", {extent}")).collect();
        let mut table =
            vec![cells("layer", "kind", "output", "parameters"), cells("input", "-", &format!("(batch{input})"), "0")];
        for row in &self.rows {
            let shape = format!("(batch, {})", row.width);
            table.push(cells(&row.name, &row.kind, &shape, &thousands(row.params)));
        }
        let widths = [0, 1, 2]
            .map(|column| table.iter().map(|row: &[String; 4]| row[column].chars().count()).max().unwrap_or(0));
        let [a, b, c] = widths;
        // The last lines have room for their words.
        let c = c.max(15_usize.saturating_sub(a + b));
        let d = table.iter().map(|row| row[3].len()).max().unwrap_or(0).max(thousands(total).len());
        for [name, kind, output, params] in &table {
            writeln!(f, "{name:a$}  {kind:b$}  {output:c$}  {params:>d$}")?;
        }
        let (before, total) = (a + b + c + 4, thousands(total));
        writeln!(f, "{:before$}  {total:>d$}", "total")?;
        if kept > 0 {
            writeln!(f, "{:before$}  {:>d$}", "of them not trained", thousands(kept))?;
        }
        Ok(())
    }
}

/// A number with a comma between groups of three digits.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
