defmodule Rooms.Application do
  @moduledoc "Starts the room and its doors, and says goodbye to everybody before it ends."
  use Application

  # Shorter than the kill_timeout in fly.toml.
  @goodbye_ms 3_000

  @impl true
  def start(_type, _args) do
    port = String.to_integer(System.get_env("PORT", "8080"))

    children = [
      {Registry, keys: :duplicate, name: Rooms.Room},
      {Task.Supervisor, name: Rooms.Visitors},
      {Rooms.Door, port}
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Rooms.Supervisor)
  end

  @doc "SIGTERM comes here first: every WebSocket is closed with 1001, so that its client connects again elsewhere."
  @impl true
  def prep_stop(state) do
    Registry.dispatch(Rooms.Room, :everybody, fn visitors ->
      for {pid, _} <- visitors, do: send(pid, :goodbye)
    end)

    wait_until_empty(System.monotonic_time(:millisecond) + @goodbye_ms)
    state
  end

  defp wait_until_empty(deadline) do
    if Registry.count(Rooms.Room) > 0 and System.monotonic_time(:millisecond) < deadline do
      Process.sleep(20)
      wait_until_empty(deadline)
    end
  end
end
