//! What can be said on the command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::{net::SocketAddr, path::PathBuf};

const FIRST_STEPS: &str = "\
First steps, after `hansa demo`:
  hansa serve --data FOLDER                      run an empty node; leave it running
  export HANSA_DATA=FOLDER HANSA_SERVER=http://127.0.0.1:7400
  hansa import cities FILE                       fill the register
  hansa tenant join cities/UUID                  a city joins and becomes a tenant
  hansa token --tenant tenants/UUID --role mayor --subject NAME";

/// Hansa: the platform on which city networks and cities run their diplomacy.
///
/// Nothing has to be installed: without any option it keeps everything in one data folder. `hansa demo` shows what it
/// does; `hansa serve` runs it. Most other commands talk to a running server (--server), or open the data folder for
/// themselves while no server has it.
///
/// Exit codes: 0 done; 1 failed; 2 a wrong command line; 3 refused by the platform; 4 the server that was called is away.
#[derive(Debug, Parser)]
#[command(name = "hansa", version, max_term_width = 100, after_help = FIRST_STEPS)]
pub struct Cli {
    /// Settings of the node, shared by all commands.
    #[command(flatten)]
    pub node: NodeOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the node keeps its data and where it is reached. Each can also stand in the configuration file, or in a variable
/// such as `HANSA_DATA`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Node")]
pub struct NodeOptions {
    /// Configuration file (TOML); every setting can also be a variable such as HANSA_LISTEN
    #[arg(long, global = true, env = "HANSA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data folder: the node's key and, without --database, all its data [default: data]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// PostgreSQL instead of files: postgres://user:password@host/database (needs --nats)
    #[arg(long, global = true, value_name = "URL")]
    pub database: Option<String>,
    /// NATS with JetStream: nats://host:4222
    #[arg(long, global = true, value_name = "URL")]
    pub nats: Option<String>,
    /// A running server to talk to, such as http://127.0.0.1:7400, instead of opening the data folder
    #[arg(long, global = true, env = "HANSA_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// Certificates (PEM) of who may have signed the server's own, for https://
    #[arg(long, global = true, env = "HANSA_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate (PEM) to show to a server that asks for one
    #[arg(long, global = true, env = "HANSA_CLIENT_CERTIFICATE", value_name = "FILE", requires = "client_key")]
    pub client_certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, global = true, env = "HANSA_CLIENT_KEY", value_name = "FILE", requires = "client_certificate")]
    pub client_key: Option<PathBuf>,
    /// The token to talk with [default: one of the steward's, where the node's key is at hand]
    #[arg(long, global = true, env = "HANSA_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nats: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
}

impl NodeOptions {
    /// As an override of the configuration.
    pub fn overrides(&self, listen: Option<SocketAddr>) -> Overrides {
        Overrides { data: self.data.clone(), database: self.database.clone(), nats: self.nats.clone(), listen }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the platform, until Ctrl-C or SIGTERM
    Serve {
        /// Address to listen on [default: 127.0.0.1:7400]
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
        /// Run only these services, separated by commas (needs PostgreSQL and NATS)
        #[arg(long, value_delimiter = ',', value_name = "SERVICES")]
        only: Vec<String>,
    },
    /// Show what the platform does: a sample of real cities, and two of them making an agreement
    ///
    /// It is embedded, in a fresh folder of its own: it heeds neither --data nor --database.
    Demo {
        /// Address to listen on afterwards
        #[arg(long, default_value = "127.0.0.1:7400", value_name = "ADDRESS")]
        listen: SocketAddr,
        /// Stop at the end instead of leaving the server up
        #[arg(long)]
        once: bool,
    },
    /// Bring published data into the register and the agreements
    ///
    /// Rows that cannot be used are told with line and reason, and the rest goes in: that counts as done. A second import
    /// of the same file changes nothing, and one that was interrupted can be run again.
    #[command(subcommand)]
    Import(Import),
    /// Make and list tenants: cities that join, secretariats, organisers
    #[command(subcommand)]
    Tenant(Tenant),
    /// Issue a token of the node's own issuer (needs the node's key, and no server)
    Token {
        /// The tenant, tenants/{uuid} [default: the node's own]
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// A role; repeat for more. In a city: mayor, delegate, council_clerk, ir_officer, observer; in a secretariat:
        /// director, officer, treasurer; for an organiser: officer, juror; for a program: service_account; in the node's
        /// own tenant alone: steward, auditor, operator
        #[arg(long = "role", required = true, value_name = "ROLE")]
        roles: Vec<String>,
        /// Who it is for, as your directory calls them; changes show no more than a number derived from it
        #[arg(long, value_name = "SUBJECT")]
        subject: String,
        /// Scopes of a service account, such as partnerships.read; repeat for more
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Days until it expires, at most 366. A token cannot be revoked
        #[arg(long, default_value_t = 30)]
        days: i64,
    },
    /// Show what happened to a record: who, when, what
    History {
        /// The record, such as agreements/{uuid} or cities/{uuid}
        record: String,
    },
    /// Erase the texts that your tenant has put into a record, for good
    Erase {
        /// The record, such as agreements/{uuid}
        record: String,
        /// One text by its seal (hex); repeat for more [default: all of your tenant's in the record]
        #[arg(long = "seal", value_name = "HEX")]
        seals: Vec<String>,
        /// Say how many it would be, and erase nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write a signed agreement as a document that anyone can check offline (needs --token of one of its parties)
    Export {
        /// The agreement, agreements/{uuid}
        agreement: String,
        /// The file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check an exported document offline, and say what it proves
    Verify {
        /// The file
        file: PathBuf,
        /// The node's public key that you were told by another way (64 hex digits), to compare with the document's
        #[arg(long, value_name = "HEX")]
        key: Option<String>,
    },
    /// Make every record's state and rows again from the journal, and compare (opens the data folder: stop the server first,
    /// but on PostgreSQL)
    Rebuild,
    /// List what subscriptions could not apply, or try it again (opens the data folder, as rebuild does)
    Replay {
        /// Try again
        #[arg(long)]
        all: bool,
    },
    /// Look whether the node is well (opens the data folder, as rebuild does)
    Doctor,
    /// Bring the database up to what this version needs, and end: before a new version serves
    ///
    /// `serve` does the same at its start. Replicas that do it at once take turns. The steps only add, so that the version
    /// before goes on meanwhile.
    Migrate {
        /// For these services alone, by commas
        #[arg(long, value_delimiter = ',', value_name = "SERVICES")]
        only: Vec<String>,
    },
    /// Ask a running server whether it serves; for probes [default server: the configured address on this machine]
    Health {
        /// Ask whether it lives, though it may wait for its database
        #[arg(long)]
        live: bool,
    },
    /// Print the settings in force, and where each is from
    Config,
    /// Print who may call what: each rpc, by how the caller's tenant stands to the record, with the roles
    Policy,
    /// Import a folder of real data into a fresh node, and play the demo's journey on it
    CheckReal {
        /// The folder
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Import {
    /// Cities: a CSV with named columns (may be gzipped), or GeoNames' own dump
    ///
    /// Columns, in any order: geonameid, name, country, admin1, population, lat, lon, timezone, feature_code. All must be
    /// there; geonameid, name and country must be filled.
    Cities {
        /// The file
        file: PathBuf,
        /// How the file is written [default: by its ending: .txt is GeoNames' dump]
        #[arg(long, value_enum)]
        format: Option<CityFormat>,
        /// Where the data is from, as the register will name it
        #[arg(long, default_value = "GeoNames (CC BY 4.0)")]
        source: String,
    },
    /// Country facts: a folder with countries.csv, country_regime.csv and the like
    ///
    /// countries.csv must be there: iso2, iso3, name, official_name, un_since, region, subregion, languages_iso639_3.
    /// Then, where they are: country_regime.csv (iso3, year, scheme, value, class), country_income_group.csv (iso3,
    /// fiscal_year, income_group), country_memberships.csv (iso3, organisation, joined, left, status),
    /// country_state_structure.csv (iso3, structure, certainty).
    Countries {
        /// The folder
        folder: PathBuf,
    },
    /// Town twinnings, as attested agreements; import the cities first
    ///
    /// Columns: tie_id, then for both ends (a_ and b_) id, name, country, tier, lat, lon; claimed_by may be left out. An id
    /// is `g` and GeoNames' number, or `x` and the list's own for a city that no register knows. A tier is MUNICIPALITY,
    /// REGION or SUB_MUNICIPAL. It calls the register and the agreements: with a process a service, run it without
    /// --server.
    Ties {
        /// The file (CSV)
        file: PathBuf,
        /// Where the data is from, as the agreements will name it
        #[arg(long, default_value = "Wikidata (CC0) and Wikipedia (CC BY-SA 4.0)")]
        source: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CityFormat {
    /// Named columns
    Csv,
    /// 19 columns by tabs
    Geonames,
}

#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// A city of the register joins
    Join {
        /// The city, cities/{uuid}: an import derives it from GeoNames' number, and ListCities finds it by name
        city: String,
    },
    /// A secretariat or an organiser begins
    Create {
        /// What it is called
        name: String,
        /// secretariat or organiser
        #[arg(long, default_value = "secretariat")]
        kind: String,
    },
    /// List tenants
    List,
}
