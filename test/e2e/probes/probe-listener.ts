import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'

/** One tick of a program: what it said, and when that was here, by the same clock of the kernel. */
export interface Tick {
  readonly n: number
  readonly wallMs: number
  readonly monotonicMs: number
  /** Bytes that it has read so far. */
  readonly heard: number
  readonly at: number
}

/** One connection, from its first word to its end. */
export interface Probe {
  readonly machine: string
  readonly ticks: Tick[]
  ended: boolean
  send(text: string): void
}

export interface ProbeListener {
  /** `address:port`. */
  readonly at: string
  /** In the order in which they came. */
  readonly probes: readonly Probe[]
  close(): void
}

/** Hears what probes tell. Asks each second by TCP whether the other side is there. */
export async function listenForProbes(address: string): Promise<ProbeListener> {
  const probes: Probe[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.setKeepAlive(true, 1000)
    const known: { probe: Probe | null; rest: string } = { probe: null, rest: '' }
    const end = () => {
      sockets.delete(socket)
      if (known.probe) known.probe.ended = true
    }
    for (const over of ['end', 'error', 'close'] as const) socket.on(over, end)
    socket.on('data', (data) => {
      const at = Date.now()
      const lines = `${known.rest}${data}`.split('\n')
      known.rest = lines.pop() ?? ''
      for (const line of lines) {
        const [, machine] = /^who (\S+)$/.exec(line) ?? []
        if (machine !== undefined) {
          known.probe = { machine, ticks: [], ended: false, send: (text) => socket.write(text) }
          probes.push(known.probe)
          continue
        }
        const [n = 0, wallMs = 0, monotonicMs = 0, heard = 0] = line.trim().split(/\s+/).map(Number)
        known.probe?.ticks.push({ n, wallMs, monotonicMs, heard, at })
      }
    })
  })
  server.listen(0, address)
  await once(server, 'listening')
  return {
    at: `${address}:${(server.address() as AddressInfo).port}`,
    probes,
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}
