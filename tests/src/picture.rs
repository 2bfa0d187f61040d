//! A drawing of one trace: one band per service, one bar per span, and a line from each span to its children.

use crate::collector::attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::fmt::Write as _;

const WIDTH: f64 = 1_000.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 30.0;
const ROW: f64 = 26.0;
const BAR: f64 = 14.0;
const TOP: f64 = 64.0;
/// Space between two bands.
const GAP: f64 = 14.0;
const COLOURS: [&str; 4] = ["#2f6f9f", "#8a5a00", "#3a7d44", "#6b4c9a"];

/// A span with its position.
struct Bar<'a> {
    span: &'a Span,
    band: usize,
    y: f64,
}

/// Draws the spans of one trace, each with the name of the service that exported it.
#[must_use]
pub fn draw(title: &str, spans: &[(String, Span)]) -> String {
    let mut sorted: Vec<&(String, Span)> = spans.iter().collect();
    sorted.sort_by_key(|(_, span)| (span.start_time_unix_nano, span.end_time_unix_nano));
    let mut bands: Vec<&str> = Vec::new();
    for (service, _) in &sorted {
        if !bands.contains(&service.as_str()) {
            bands.push(service);
        }
    }
    let (mut bars, mut frames, mut y) = (Vec::new(), Vec::new(), TOP);
    for (band, service) in bands.iter().enumerate() {
        let from = y;
        for (_, span) in sorted.iter().filter(|(name, _)| name == service) {
            bars.push(Bar { span, band, y: y + (ROW - BAR) / 2.0 });
            y += ROW;
        }
        frames.push((*service, from, y - from));
        y += GAP;
    }
    let begin = sorted.iter().map(|(_, span)| span.start_time_unix_nano).min().unwrap_or_default();
    let end = sorted.iter().map(|(_, span)| span.end_time_unix_nano).max().unwrap_or_default();
    let scale = Scale { begin, milliseconds: milliseconds(end - begin).max(0.001) };
    let mut svg = head(title, y + 24.0);
    for (service, top, height) in frames {
        let _ = writeln!(
            svg,
            r##"<rect x="0" y="{top:.0}" width="{WIDTH}" height="{height:.0}" fill="#f3f5f7"/><text x="10" y="{:.0}" class="band">{}</text>"##,
            top + 17.0,
            escape(service)
        );
    }
    axis(&mut svg, &scale, y);
    for bar in &bars {
        if let Some(parent) = bars.iter().find(|other| other.span.span_id == bar.span.parent_span_id) {
            let x = scale.x(bar.span.start_time_unix_nano);
            let (from, to) = (parent.y + BAR, bar.y + BAR / 2.0);
            let _ = writeln!(
                svg,
                r#"<path d="M{:.1} {from:.1} V{to:.1} H{x:.1}" class="led"/>"#,
                scale.x(parent.span.start_time_unix_nano) + 1.0
            );
        }
    }
    for bar in &bars {
        svg.push_str(&bar_of(bar, &scale));
    }
    svg.push_str("</svg>\n");
    svg
}

struct Scale {
    begin: u64,
    milliseconds: f64,
}

impl Scale {
    fn x(&self, at: u64) -> f64 {
        LEFT + milliseconds(at.saturating_sub(self.begin)) / self.milliseconds * (WIDTH - LEFT - RIGHT)
    }
}

#[allow(clippy::cast_precision_loss)]
fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

fn head(title: &str, height: f64) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" font-family="sans-serif" font-size="12" role="img" aria-label="{title}">
<style>.band{{font-weight:bold}} .led{{fill:none;stroke:#777;stroke-dasharray:3 2}} .axis{{stroke:#ccd2d8}} .mark{{fill:#555;font-size:11px}} .said{{paint-order:stroke;stroke:#f3f5f7;stroke-width:5px}}</style>
<rect width="{WIDTH}" height="{height:.0}" fill="#fff"/>
<text x="10" y="24" font-size="16">{title}</text>
<text x="{WIDTH}" dx="-10" y="24" text-anchor="end" class="mark">one run of a debug build, drawn by make trace</text>
"##,
        title = escape(title)
    )
}

/// Draws grid lines at round numbers of milliseconds.
fn axis(svg: &mut String, scale: &Scale, bottom: f64) {
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0, 60_000.0]
        .into_iter()
        .find(|step| scale.milliseconds / step <= 10.0)
        .unwrap_or(600_000.0);
    let mut at = 0.0;
    while at <= scale.milliseconds {
        let x = LEFT + at / scale.milliseconds * (WIDTH - LEFT - RIGHT);
        let _ = writeln!(
            svg,
            r#"<line x1="{x:.1}" x2="{x:.1}" y1="{:.0}" y2="{bottom:.0}" class="axis"/><text x="{x:.1}" y="{:.0}" class="mark" text-anchor="middle">{at} ms</text>"#,
            TOP - 8.0,
            TOP - 12.0
        );
        at += step;
    }
}

fn bar_of(bar: &Bar<'_>, scale: &Scale) -> String {
    let (x, to) = (scale.x(bar.span.start_time_unix_nano), scale.x(bar.span.end_time_unix_nano));
    let width = (to - x).max(2.0);
    let took = milliseconds(bar.span.end_time_unix_nano.saturating_sub(bar.span.start_time_unix_nano));
    let took = if took < 1.0 { format!("{:.0} µs", took * 1e3) } else { format!("{took:.1} ms") };
    let label = format!("{} · {took}", said(bar.span));
    // The label is to the right of the bar if there is room, otherwise to its left.
    let fits = x + width + 8.0 + label.chars().count() as f64 * 6.3 < WIDTH;
    let (at, anchor) = if fits { (x + width + 6.0, "start") } else { (x - 6.0, "end") };
    format!(
        r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="2" fill="{}"/><text x="{at:.1}" y="{:.1}" text-anchor="{anchor}" class="said">{}</text>
"#,
        COLOURS[bar.band % COLOURS.len()],
        bar.y + BAR - 3.0,
        escape(&label),
        y = bar.y,
    )
}

/// Returns the label of a span.
fn said(span: &Span) -> String {
    let kind = |record: String| record.split('/').next().unwrap_or_default().to_owned();
    match span.name.as_str() {
        "rpc" => attribute(span, "rpc.method").rsplit('/').next().unwrap_or_default().to_owned(),
        "apply" => format!("apply {} ({})", kind(attribute(span, "record")), attribute(span, "subscription")),
        "work" => format!("work {}", attribute(span, "queue")),
        name => name.to_owned(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
