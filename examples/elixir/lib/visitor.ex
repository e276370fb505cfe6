defmodule Rooms.Visitor do
  @moduledoc "One connection: HTTP requests, or from a point on a WebSocket (RFC 6455)."
  import Bitwise

  @magic "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
  @idle_ms 60_000
  @message_max 65_536

  def serve(socket) do
    case request(socket) do
      {:ok, path, headers} -> answer(socket, path, headers)
      :closed -> :gen_tcp.close(socket)
    end
  end

  defp request(socket) do
    with {:ok, {:http_request, _method, {:abs_path, path}, _version}} <-
           :gen_tcp.recv(socket, 0, @idle_ms),
         {:ok, headers} <- headers(socket, %{}, 100),
         :ok <- skip_body(socket, headers) do
      {:ok, path, headers}
    else
      _ -> :closed
    end
  end

  defp headers(_socket, _found, 0), do: :too_many

  defp headers(socket, found, left) do
    case :gen_tcp.recv(socket, 0, @idle_ms) do
      {:ok, :http_eoh} ->
        {:ok, found}

      {:ok, {:http_header, _, name, _, value}} ->
        headers(socket, Map.put(found, name |> to_string() |> String.downcase(), value), left - 1)

      _ ->
        :closed
    end
  end

  # Nobody reads it here, but the next request comes after it.
  defp skip_body(socket, %{"content-length" => length}) do
    case Integer.parse(length) do
      {0, ""} ->
        :ok

      {size, ""} when size in 1..1_000_000 ->
        :inet.setopts(socket, packet: :raw)
        read = :gen_tcp.recv(socket, size, @idle_ms)
        :inet.setopts(socket, packet: :http_bin)
        with {:ok, _} <- read, do: :ok

      _ ->
        :closed
    end
  end

  defp skip_body(_socket, _headers), do: :ok

  defp answer(socket, path, headers) do
    case {path, headers} do
      {"/ws", %{"sec-websocket-key" => key}} ->
        accept = :crypto.hash(:sha, key <> @magic) |> Base.encode64()

        :gen_tcp.send(socket, [
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
          "Sec-WebSocket-Accept: #{accept}\r\n\r\n"
        ])

        enter(socket)

      _ ->
        status = if path == "/", do: "200 OK", else: "404 Not Found"
        body = where() <> "\n"

        :gen_tcp.send(socket, [
          "HTTP/1.1 #{status}\r\ncontent-type: application/json\r\n",
          "content-length: #{byte_size(body)}\r\n\r\n",
          body
        ])

        serve(socket)
    end
  end

  defp where do
    region = System.get_env("FLY_REGION", "local")
    machine = System.get_env("FLY_MACHINE_ID", "local")
    ~s({"region":"#{region}","machine":"#{machine}"})
  end

  defp enter(socket) do
    {:ok, _} = Registry.register(Rooms.Room, :everybody, nil)
    :inet.setopts(socket, packet: :raw, active: :once)
    say(socket, 1, where())
    stay(socket, <<>>)
  end

  # Whatever comes first: bytes of the visitor, a word of another one, or the end of this machine.
  defp stay(socket, seen) do
    receive do
      {:tcp, ^socket, bytes} ->
        case frames(socket, seen <> bytes) do
          {:more, rest} when byte_size(rest) <= @message_max ->
            :inet.setopts(socket, active: :once)
            stay(socket, rest)

          _ ->
            leave(socket)
        end

      {:said, text} ->
        say(socket, 1, text)
        stay(socket, seen)

      :goodbye ->
        say(socket, 8, <<1001::16, "machine is going away">>)
        leave(socket)

      {:tcp_closed, ^socket} ->
        :ok

      {:tcp_error, ^socket, _} ->
        :ok
    end
  end

  # The other side has read the close frame when it closes; a connection that is cut earlier may lose it.
  defp leave(socket) do
    Registry.unregister(Rooms.Room, :everybody)
    :gen_tcp.shutdown(socket, :write)
    :inet.setopts(socket, active: false)
    :gen_tcp.recv(socket, 0, 1_000)
    :gen_tcp.close(socket)
  end

  defp frames(socket, bytes) do
    case bytes do
      <<1::1, 0::3, code::4, 1::1, 127::7, size::64, mask::32, data::binary-size(size), rest::binary>>
      when size <= @message_max ->
        heard(socket, code, unmask(data, mask), rest)

      <<1::1, 0::3, code::4, 1::1, 126::7, size::16, mask::32, data::binary-size(size), rest::binary>> ->
        heard(socket, code, unmask(data, mask), rest)

      <<1::1, 0::3, code::4, 1::1, size::7, mask::32, data::binary-size(size), rest::binary>>
      when size < 126 ->
        heard(socket, code, unmask(data, mask), rest)

      rest ->
        {:more, rest}
    end
  end

  defp heard(socket, code, data, rest) do
    case code do
      1 ->
        Registry.dispatch(Rooms.Room, :everybody, fn visitors ->
          for {pid, _} <- visitors, do: send(pid, {:said, data})
        end)

        frames(socket, rest)

      8 ->
        say(socket, 8, data)
        :bye

      9 ->
        say(socket, 10, data)
        frames(socket, rest)

      _ ->
        frames(socket, rest)
    end
  end

  defp unmask(data, mask) do
    keys = {mask >>> 24 &&& 255, mask >>> 16 &&& 255, mask >>> 8 &&& 255, mask &&& 255}

    for {byte, n} <- Enum.with_index(:binary.bin_to_list(data)), into: <<>> do
      <<bxor(byte, elem(keys, rem(n, 4)))>>
    end
  end

  defp say(socket, code, data) do
    size = byte_size(data)
    length = if size < 126, do: <<size::8>>, else: <<126::8, size::16>>
    :gen_tcp.send(socket, [<<8::4, code::4>>, length, data])
  end
end
