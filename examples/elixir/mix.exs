defmodule Rooms.MixProject do
  use Mix.Project

  def project do
    [
      app: :rooms,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      deps: [],
      # Nodes of a release find each other by name; this one looks for nobody.
      releases: [rooms: [include_executables_for: [:unix]]]
    ]
  end

  def application, do: [mod: {Rooms.Application, []}, extra_applications: [:logger, :crypto]]
end
