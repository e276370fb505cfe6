import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer as createTcpServer, isIPv6, type Socket } from 'node:net'
import type { Logger } from '@roost/base'

/** Carries packets; what they mean is `answer`'s business. */
export interface DnsServer {
  readonly port: number
  close(): Promise<void>
}

const TCP_CONNECTIONS_MAX = 100
/** Of one address, so that ten who say nothing are needed to keep all others out. */
const TCP_CONNECTIONS_MAX_SOURCE = 10
const TCP_IDLE_MS = 5000
/** However much is said. */
const TCP_MS_MAX = 10_000
const TCP_QUERIES_MAX = 50
/** A question is small; who sends more wants something else. */
const TCP_QUERY_BYTES_MAX = 2048
/** A port that the kernel chose for UDP may be taken for TCP. */
const BIND_ATTEMPTS_MAX = 5

export async function startDnsServer(options: {
  readonly address: string
  readonly port: number
  readonly answer: (message: Buffer, source: string, transport: 'udp' | 'tcp') => Buffer | null
  readonly log: Logger
}): Promise<DnsServer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await bind(options)
    } catch (error) {
      if (options.port !== 0 || attempt === BIND_ATTEMPTS_MAX) throw error
    }
  }
}

async function bind(options: Parameters<typeof startDnsServer>[0]): Promise<DnsServer> {
  const { address, log } = options
  const answer: typeof options.answer = (message, source, transport) => {
    try {
      return options.answer(message, source, transport)
    } catch (error) {
      log.warn('a question could not be answered', { error, source })
      return null
    }
  }

  const udp = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
  udp.on('message', (message, from) => serveDatagram(udp, answer, log, message, from))
  try {
    udp.bind(options.port, address)
    await once(udp, 'listening')
  } catch (error) {
    udp.close()
    throw error
  }
  udp.on('error', (error) => log.warn('dns over udp', { error }))
  const { port } = udp.address()

  const sockets = new Map<Socket, string>()
  const tcp = createTcpServer((socket) => {
    const source = socket.remoteAddress ?? ''
    const same = [...sockets.values()].filter((other) => other === source).length
    if (same >= TCP_CONNECTIONS_MAX_SOURCE) {
      socket.destroy()
      return
    }
    sockets.set(socket, source)
    const late = setTimeout(() => socket.destroy(), TCP_MS_MAX)
    socket.on('close', () => {
      clearTimeout(late)
      sockets.delete(socket)
    })
    socket.on('error', () => socket.destroy())
    socket.setTimeout(TCP_IDLE_MS, () => socket.destroy())
    serve(socket, answer)
  })
  tcp.maxConnections = TCP_CONNECTIONS_MAX
  const close = async () => {
    for (const socket of sockets.keys()) socket.destroy()
    await Promise.all([
      new Promise<void>((resolve) => udp.close(() => resolve())),
      new Promise((resolve) => tcp.close(resolve)),
    ])
  }
  try {
    tcp.listen(port, address)
    await once(tcp, 'listening')
  } catch (error) {
    await close()
    throw error
  }
  tcp.on('error', (error) => log.warn('dns over tcp', { error }))
  return { port: (tcp.address() as AddressInfo).port, close }
}

/** Throws for nothing that a packet can say. */
export function serveDatagram(
  udp: Pick<UdpSocket, 'send'>,
  answer: (message: Buffer, source: string, transport: 'udp') => Buffer | null,
  log: Logger,
  message: Buffer,
  from: { readonly address: string; readonly port: number },
): void {
  // Anybody can write this into a packet, and nothing can be sent there.
  if (from.port === 0) return
  const reply = answer(message, from.address, 'udp')
  if (reply === null) return
  try {
    // A reply that the kernel does not take is lost as on any way; the client asks again.
    udp.send(reply, from.port, from.address, () => {})
  } catch (error) {
    log.warn('an answer could not be sent', { error, source: from.address })
  }
}

function serve(
  socket: Socket,
  answer: (message: Buffer, source: string, transport: 'tcp') => Buffer | null,
): void {
  let rest: Buffer = Buffer.alloc(0)
  let queries = 0
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 2) {
      const length = rest.readUInt16BE(0)
      if (length > TCP_QUERY_BYTES_MAX || ++queries > TCP_QUERIES_MAX) {
        socket.destroy()
        return
      }
      if (rest.length < length + 2) {
        queries -= 1
        return
      }
      const reply = answer(rest.subarray(2, length + 2), socket.remoteAddress ?? '', 'tcp')
      rest = rest.subarray(length + 2)
      if (reply === null) {
        socket.destroy()
        return
      }
      const head = Buffer.alloc(2)
      head.writeUInt16BE(reply.length)
      socket.write(Buffer.concat([head, reply]))
    }
  })
}
