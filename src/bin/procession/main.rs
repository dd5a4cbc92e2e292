//! The `procession` command: trains a small model, prints the order of a plan, measures the loader, tells what a data
//! set holds, checks all of it, and packs folders into shards.
//!
//! Each subcommand is a file. What they share: [`output`] writes results to standard output, for people or as JSON
//! Lines; [`stop`] says why a command ended before its end, and with which exit code; [`interrupt`] is Ctrl-C.

mod augment;
mod bench;
mod bench_data;
mod bench_images;
mod chart;
mod csv_table;
mod data;
mod flat;
mod folders;
mod identity;
mod images;
mod inspect;
mod interrupt;
mod order;
mod output;
mod pack;
mod save;
mod sheet;
mod stop;
mod tables;
mod train;
mod training_data;
mod verify;
mod workload;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::Output;

/// Feeds training loops: every sample exactly once per epoch, shuffled, loaded in parallel, delivered in order.
#[derive(Debug, Parser)]
#[command(name = "procession", version, arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "Exit codes: 0 done, 1 an error, 2 wrong usage, 130 stopped by Ctrl-C.")]
struct Cli {
    /// Print one JSON object per line instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Args),
    Order(order::Args),
    Bench(bench::Args),
    Inspect(inspect::Args),
    Pack(pack::Args),
    Verify(verify::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return stop::usage(&error),
    };
    let mut out = Output::new(cli.json);
    let mut result = interrupt::listen().and_then(|()| match &cli.command {
        Command::Train(args) => train::run(args, &mut out),
        Command::Order(args) => order::run(args, &mut out),
        Command::Bench(args) => bench::run(args, &mut out),
        Command::Inspect(args) => inspect::run(args, &mut out),
        Command::Pack(args) => pack::run(args, &mut out),
        Command::Verify(args) => verify::run(args, &mut out),
    });
    // What was printed before an error is printed all the same; a closed output is then no news.
    let flushed = out.flush();
    if result.is_ok() {
        result = flushed;
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            if let Some(line) = stop.line() {
                // There is no one left to tell if this fails.
                let _ = writeln!(io::stderr(), "{line}");
            }
            stop.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
