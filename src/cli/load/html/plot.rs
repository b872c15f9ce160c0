//! Lines over an axis, as SVG that takes its colours from the page.

use std::fmt::Write as _;

use maud::{Markup, html};

/// A drawing with a legend.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) x_label: &'a str,
    pub(super) y_label: &'a str,
    pub(super) x_scale: Scale,
    /// Where the y axis ends; by default, above the highest point. It begins at 0.
    pub(super) y_max: Option<f64>,
    /// Those after [`LINES_MAX`] have no colour of their own.
    pub(super) lines: Vec<Line>,
    /// Points with a label.
    pub(super) marks: Vec<(f64, f64, &'a str)>,
}

pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy)]
pub(super) enum Scale {
    Linear,
    /// For times from 10 us up.
    Log,
}

/// How many colours the page has.
pub(super) const LINES_MAX: usize = 4;

impl Plot<'_> {
    /// The drawing, or a sentence where there is nothing to draw.
    pub(super) fn draw(&self) -> Markup {
        html! {
            figure {
                figcaption {
                    (self.title) span { ", " (self.y_label) }
                    @if self.lines.len() > 1 { (self.legend()) }
                }
                @match self.axes() {
                    Some(axes) => (self.svg(&axes)),
                    None => p.nothing { "Nothing was measured." },
                }
            }
        }
    }

    fn legend(&self) -> Markup {
        html! {
            ul { @for (i, line) in self.lines.iter().enumerate() { li class={ "line" (i) } { (line.name) } } }
        }
    }

    fn svg(&self, axes: &Axes) -> Markup {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        html! {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.title) {
                g.grid {
                    @for value in axes.y.ticks() {
                        @let y = round(axes.y.place(value));
                        line x1=(LEFT) x2=(right) y1=(y) y2=(y) {}
                        text x=(LEFT - 8.0) y=(y + 4.0) text-anchor="end" { (value) }
                    }
                    @for value in axes.x.ticks() {
                        @let x = round(axes.x.place(value));
                        line x1=(x) x2=(x) y1=(TOP) y2=(bottom) {}
                        text x=(x) y=(bottom + 18.0) text-anchor="middle" { (value) }
                    }
                    text x=(right) y=(HEIGHT - 2.0) text-anchor="end" { (self.x_label) }
                }
                @for (i, line) in self.lines.iter().enumerate() {
                    polyline class={ "line" (i) } points=(axes.polyline(&line.points)) {}
                }
                @for (x, y, label) in &self.marks {
                    @let (x, y) = (round(axes.x.place(*x)), round(axes.y.place(*y)));
                    circle cx=(x) cy=(y) r="4" {}
                    text.mark x=(x + 8.0) y=(y + 16.0) { (label) }
                }
            }
        }
    }

    /// Nothing if there is no finite point.
    fn axes(&self) -> Option<Axes> {
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let (x_least, x_most) = extent(points().map(|(x, _)| *x))?;
        let (_, y_most) = extent(points().map(|(_, y)| *y))?;
        let (x_least, x_most) = match self.x_scale {
            Scale::Linear => (0.0, x_most.max(1.0)),
            Scale::Log => {
                let least = x_least.max(LOG_LEAST).log10().floor();
                (least, x_most.max(LOG_LEAST).log10().ceil().max(least + 1.0))
            }
        };
        let y_most = self.y_max.unwrap_or_else(|| round_up(y_most.max(LOG_LEAST)));
        let x = Axis { scale: self.x_scale, least: x_least, most: x_most, from: LEFT, to: WIDTH - RIGHT };
        let y = Axis { scale: Scale::Linear, least: 0.0, most: y_most, from: HEIGHT - BOTTOM, to: TOP };
        Some(Axes { x, y })
    }
}

struct Axes {
    x: Axis,
    y: Axis,
}

impl Axes {
    fn polyline(&self, points: &[(f64, f64)]) -> String {
        let mut drawn = String::new();
        for (x, y) in points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            // Writing to a string can't fail.
            let _ = write!(drawn, "{:.1},{:.1} ", self.x.place(*x), self.y.place(*y));
        }
        drawn
    }
}

/// From values (for a logarithmic axis: their logarithms) to places in the drawing.
struct Axis {
    scale: Scale,
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(LOG_LEAST).log10(),
        };
        let share = ((value - self.least) / (self.most - self.least)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.most / 5.0);
                let count = (self.most / step + 0.001).floor().clamp(1.0, 10.0);
                successors(0.0, |i| i + 1.0, count).map(|i| significant(i * step)).collect()
            }
            Scale::Log => {
                successors(self.least, |i| i + 1.0, self.most).map(|decade| significant(10_f64.powf(decade))).collect()
            }
        }
    }
}

fn successors(first: f64, next: fn(&f64) -> f64, last: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(first), move |i| Some(next(i))).take_while(move |i| *i <= last)
}

fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |extent, value| {
        let (least, most) = extent.unwrap_or((value, value));
        Some((value.min(least), value.max(most)))
    })
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn step(rough: f64) -> f64 {
    let decade = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|factor| factor * decade);
    significant(steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(10.0 * decade))
}

/// The end of an axis that reaches `most`: a whole number of steps.
fn round_up(most: f64) -> f64 {
    let step = step(most / 5.0);
    significant((most / step).ceil() * step)
}

/// Without the last digits, in which sums of 0.1 differ.
fn significant(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn round(place: f64) -> f64 {
    (place * 10.0).round() / 10.0
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 36.0;
/// A logarithmic axis begins here at the earliest.
const LOG_LEAST: f64 = 0.01;
