defmodule Rooms.Probe do
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, nil)

  @impl true
  def init(_) do
    [host, port] = String.split(System.fetch_env!("PROBE_AT"), ":")
    options = [:binary, active: true]
    {:ok, link} = :gen_tcp.connect(to_charlist(host), String.to_integer(port), options)
    :ok = :gen_tcp.send(link, "who #{System.fetch_env!("FLY_MACHINE_ID")}\n")
    Process.send_after(self(), :tick, 100)
    {:ok, {link, 0, 0}}
  end

  @impl true
  def handle_info(:tick, {link, ticks, heard}) do
    Process.send_after(self(), :tick, 100)
    now = [System.os_time(:millisecond), System.monotonic_time(:millisecond)]
    :gen_tcp.send(link, "#{Enum.join([ticks + 1] ++ now ++ [heard], " ")}\n")
    {:noreply, {link, ticks + 1, heard}}
  end

  def handle_info({:tcp, _, bytes}, {link, ticks, heard}) do
    {:noreply, {link, ticks, heard + byte_size(bytes)}}
  end

  def handle_info({:tcp_closed, _}, state), do: {:noreply, state}
end
