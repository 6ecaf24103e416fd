//! Markdown tables that are readable as they stand.

/// Prints a table: the first row is its head, the first column its words, all others its numbers.
pub fn table(rows: &[Vec<String>]) {
    let Some((head, body)) = rows.split_first() else { return };
    let width =
        |column: usize| rows.iter().filter_map(|row: &Vec<String>| Some(row.get(column)?.chars().count())).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or_default()).collect();
    let line = |cells: &[String]| {
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            if column == 0 { print!("| {cell:<width$} |") } else { print!(" {cell:>width$} |") }
        }
        println!();
    };
    line(head);
    let rules = widths.iter().enumerate().map(|(column, width)| {
        if column == 0 { "-".repeat(*width) } else { format!("{}:", "-".repeat(width.saturating_sub(1))) }
    });
    line(&rules.collect::<Vec<_>>());
    for row in body {
        line(row);
    }
}

/// A whole number with its thousands set off.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
