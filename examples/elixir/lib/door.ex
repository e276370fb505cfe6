defmodule Rooms.Door do
  @moduledoc "Lets visitors in: each connection is a process of its own."
  use Task, restart: :permanent

  def start_link(port), do: Task.start_link(__MODULE__, :open, [port])

  def open(port) do
    {:ok, door} =
      :gen_tcp.listen(port, [
        :binary,
        :inet6,
        ipv6_v6only: false,
        packet: :http_bin,
        active: false,
        reuseaddr: true,
        backlog: 1024
      ])

    IO.puts("listening on #{port}")
    let_in(door)
  end

  defp let_in(door) do
    {:ok, socket} = :gen_tcp.accept(door)

    {:ok, visitor} =
      Task.Supervisor.start_child(Rooms.Visitors, fn ->
        receive do
          :yours -> Rooms.Visitor.serve(socket)
        end
      end)

    case :gen_tcp.controlling_process(socket, visitor) do
      :ok -> send(visitor, :yours)
      {:error, _} -> Task.Supervisor.terminate_child(Rooms.Visitors, visitor)
    end

    let_in(door)
  end
end
