//! The history as a picture: loss on the left, accuracy on the right.

use std::error::Error as StdError;

use plotters::coord::Shift;
use plotters::prelude::*;
use procession::train::History;
use procession::{Error, ErrorKind, Result};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), Box<dyn StdError + Send + Sync>>;

const SIZE: (u32, u32) = (1000, 420);
const GREY: RGBColor = RGBColor(120, 120, 120);
const BLUE: RGBColor = RGBColor(0, 90, 181);
const ORANGE: RGBColor = RGBColor(220, 80, 0);

/// A line: its name in the legend, its column in the history, and its colour.
type Line = (&'static str, &'static str, RGBColor);

const LOSSES: [Line; 3] = [
    ("training, with dropout", "loss", GREY),
    ("test, raw weights", "val_loss", BLUE),
    ("test, averaged weights", "ema_val_loss", ORANGE),
];
const ACCURACIES: [Line; 3] = [
    ("training, with dropout", "accuracy", GREY),
    ("test, raw weights", "val_accuracy", BLUE),
    ("test, averaged weights", "ema_val_accuracy", ORANGE),
];

/// Draws a history as SVG.
pub(crate) fn svg(history: &History) -> Result<String> {
    let mut svg = String::new();
    draw(history, SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())
        .map_err(|cause| Error::new(ErrorKind::Io, "drawing the history failed").with_cause(cause))?;
    Ok(svg)
}

fn draw(history: &History, root: Area<'_>) -> Drawn {
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    panel(&left, history, &LOSSES, "loss (cross-entropy)", 1.0, SeriesLabelPosition::UpperRight)?;
    panel(&right, history, &ACCURACIES, "accuracy in %", 100.0, SeriesLabelPosition::LowerRight)?;
    root.present()?;
    Ok(())
}

/// A number as it is written, without the noise of its last bits.
fn label(number: &f64) -> String {
    let rounded = format!("{number:.4}");
    match rounded.trim_end_matches('0').trim_end_matches('.') {
        "" | "-0" => "0".to_owned(),
        digits => digits.to_owned(),
    }
}

fn panel(
    area: &Area<'_>,
    history: &History,
    lines: &[Line],
    title: &str,
    unit: f64,
    legend: SeriesLabelPosition,
) -> Drawn {
    // A point stands at the number of epochs that were done by then.
    let points = |column| {
        let values = history.column(column).filter(|(_, _, value)| value.is_finite());
        values.map(|(epoch, _, value)| ((epoch + 1) as f64, unit * value)).collect::<Vec<_>>()
    };
    let all: Vec<(f64, f64)> = lines.iter().flat_map(|(_, column, _)| points(column)).collect();
    let num_epochs = all.iter().map(|point| point.0).fold(1.0, f64::max);
    let low = all.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = all.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let margin = if high > low { 0.08 * (high - low) } else { 0.05 * unit };
    let range = if low.is_finite() { low - margin..high + margin } else { 0.0..1.0 };

    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(0.9..num_epochs.max(2.0) + 0.1, range)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .axis_style(BLACK.mix(0.5))
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 16))
        .x_desc("epochs")
        .y_desc(title)
        .x_labels(num_epochs.min(10.0) as usize + 1)
        .y_labels(8)
        // Between two epochs there is nothing to name.
        .x_label_formatter(&|epochs| if epochs.fract() == 0.0 { format!("{epochs}") } else { String::new() })
        .y_label_formatter(&label)
        .draw()?;
    for &(name, column, color) in lines {
        let points = points(column);
        if points.is_empty() {
            continue;
        }
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(legend)
        .margin(12)
        .legend_area_size(24)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.25))
        .label_font(("sans-serif", 14))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        assert_eq!(
            [0.1 + 0.2, 1.0, 1e6, -0.0, 85.0, 0.0].map(|number| label(&number)),
            ["0.3", "1", "1000000", "0", "85", "0"]
        );
    }

    #[test]
    fn any_history_can_be_drawn() {
        let mut history = History::new();
        assert!(svg(&history).unwrap().contains("epochs"));
        history.push(0, 10, &[("loss", f64::NAN), ("val_accuracy", 0.5)]);
        assert!(svg(&history).unwrap().contains("raw weights"));
        history.push(u64::from(u32::MAX), 20, &[("loss", 1e30), ("val_accuracy", 0.5)]);
        let picture = svg(&history).unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    }
}
