import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { connect, createServer, type Socket as TcpSocket } from 'node:net'
import type { Logger } from '@roost/base'
import * as dns from 'dns-packet'
import type { WanConfig } from './main.ts'

/**
 * What a client's internet provider runs: it answers from the domain's own name servers, the edges, and tells them by EDNS
 * Client Subnet (RFC 7871) who asks. The edge of the client's region is asked first, as a resolver comes to prefer the
 * quickest; one that does not answer is left alone for a while. It remembers no answers: what the edges say holds at once.
 */
const EDGE_MS_MAX = 400
const UPSTREAM_MS_MAX = 3000
const DEAD_MS = 2000
const QUESTIONS_MAX = 500
const TCP_CONNECTIONS_MAX = 64
const TCP_IDLE_MS = 10_000
const MESSAGE_BYTES_MAX = 4096
/** dns-packet leaves the response code in the low bits of `flags`. */
const SERVFAIL = 2

type Config = NonNullable<WanConfig['resolver']>

export interface Resolver {
  close(): Promise<void>
}

export async function startResolver(config: Config, log: Logger): Promise<Resolver> {
  const deadUntil = new Map<string, number>()
  const open = { questions: 0 }

  async function resolve(query: Buffer, client: string, overTcp: boolean): Promise<Buffer | null> {
    if (open.questions >= QUESTIONS_MAX) return null
    let question: dns.DecodedPacket
    try {
      question = dns.decode(query)
    } catch {
      return null
    }
    const name = question.questions?.[0]?.name.toLowerCase()
    if (name === undefined || question.type !== 'query') return null
    open.questions++
    try {
      const ours = name === config.domain || name.endsWith(`.${config.domain}`)
      const answer = ours
        ? await askEdges(question, client, overTcp)
        : await askUpstream(query, overTcp)
      return answer ?? failure(question)
    } finally {
      open.questions--
    }
  }

  async function askEdges(
    question: dns.DecodedPacket,
    client: string,
    overTcp: boolean,
  ): Promise<Buffer | null> {
    const query = dns.encode({
      type: 'query',
      id: question.id ?? 0,
      flags: 0,
      questions: question.questions ?? [],
      additionals: [clientSubnet(client)],
    })
    const now = Date.now()
    const order = edgesFor(config, client)
    const isDead = (address: string) => (deadUntil.get(address) ?? 0) > now
    const living = order.filter((address) => !isDead(address))
    for (const address of [...living, ...order.filter(isDead)]) {
      const reply = await exchange(query, address, overTcp, EDGE_MS_MAX)
      if (reply !== null && (reply.readUInt16BE(2) & 15) !== SERVFAIL) {
        deadUntil.delete(address)
        return asResolver(reply)
      }
      deadUntil.set(address, Date.now() + DEAD_MS)
      log.info('edge does not answer questions', { address, client })
    }
    return null
  }

  async function askUpstream(query: Buffer, overTcp: boolean): Promise<Buffer | null> {
    for (const address of config.upstream.slice(0, 3)) {
      const reply = await exchange(query, address, overTcp, UPSTREAM_MS_MAX)
      if (reply !== null) return reply
    }
    return null
  }

  const udp = createSocket('udp4')
  udp.on('message', (query: Buffer, from: RemoteInfo) => {
    void resolve(query, from.address, false).then((reply) => {
      if (reply !== null) udp.send(reply, from.port, from.address)
    })
  })
  const connections = new Set<TcpSocket>()
  const tcp = createServer((socket) => {
    connections.add(socket)
    socket.on('close', () => connections.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.setTimeout(TCP_IDLE_MS, () => socket.destroy())
    readMessages(socket, (query) => {
      void resolve(query, socket.remoteAddress ?? '', true).then((reply) => {
        if (reply === null) socket.destroy()
        else if (!socket.destroyed) socket.write(withLength(reply))
      })
    })
  })
  tcp.maxConnections = TCP_CONNECTIONS_MAX
  udp.on('error', (error) => log.warn('resolver', { error }))
  await new Promise<void>((resolve, reject) => {
    udp.once('error', reject)
    udp.bind(53, config.address, resolve)
  })
  await new Promise<void>((resolve, reject) => {
    tcp.once('error', reject)
    tcp.listen(53, config.address, resolve)
  })
  return {
    async close() {
      for (const socket of connections) socket.destroy()
      tcp.close()
      udp.close()
    },
  }
}

/** Addresses of the edges, the client's own region first, the others as they were given. */
export function edgesFor(config: Config, client: string): string[] {
  const region = config.clientNetworks.find(({ cidr }) => isWithin24(client, cidr))?.region
  const isOwn = (edge: { region: string }) => edge.region === region
  return [...config.edges.filter(isOwn), ...config.edges.filter((edge) => !isOwn(edge))].map(
    (edge) => edge.address,
  )
}

function isWithin24(address: string, cidr: string): boolean {
  return address.split('.').slice(0, 3).join('.') === cidr.split('.').slice(0, 3).join('.')
}

function clientSubnet(address: string): dns.OptAnswer {
  return {
    type: 'OPT',
    name: '.',
    udpPayloadSize: MESSAGE_BYTES_MAX,
    flags: 0,
    options: [{ code: 'CLIENT_SUBNET', family: 1, sourcePrefixLength: 32, ip: address }],
  } as unknown as dns.OptAnswer
}

/** An authority's answer, as a resolver passes it on: recursion was available, and nobody downstream asked for options. */
function asResolver(reply: Buffer): Buffer {
  const answer = dns.decode(reply)
  return dns.encode({
    ...answer,
    type: 'response',
    flags: (((answer.flags ?? 0) | dns.RECURSION_AVAILABLE | dns.RECURSION_DESIRED) &
      ~dns.AUTHORITATIVE_ANSWER) as number,
    additionals: (answer.additionals ?? []).filter((record) => record.type !== 'OPT'),
  } as dns.Packet)
}

function failure(question: dns.DecodedPacket): Buffer {
  return dns.encode({
    type: 'response',
    id: question.id ?? 0,
    flags: dns.RECURSION_AVAILABLE | dns.RECURSION_DESIRED | SERVFAIL,
    questions: question.questions ?? [],
  })
}

async function exchange(
  query: Buffer,
  address: string,
  overTcp: boolean,
  msMax: number,
): Promise<Buffer | null> {
  return overTcp ? exchangeTcp(query, address, msMax) : exchangeUdp(query, address, msMax)
}

/** A socket for each question: a fresh port each time is what makes answers hard to forge, and nothing is to be matched. */
function exchangeUdp(query: Buffer, address: string, msMax: number): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const socket: Socket = createSocket('udp4')
    const end = (reply: Buffer | null) => {
      clearTimeout(timer)
      socket.removeAllListeners()
      socket.on('error', () => {})
      socket.close()
      resolve(reply)
    }
    const timer = setTimeout(() => end(null), msMax)
    socket.once('error', () => end(null))
    socket.on('message', (reply, from) => {
      const matches = from.address === address && reply.length >= 12
      if (matches && reply.readUInt16BE(0) === query.readUInt16BE(0)) end(reply)
    })
    socket.send(query, 53, address)
  })
}

function exchangeTcp(query: Buffer, address: string, msMax: number): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const socket = connect(53, address)
    const end = (reply: Buffer | null) => {
      clearTimeout(timer)
      socket.destroy()
      resolve(reply)
    }
    // Three round trips instead of one.
    const timer = setTimeout(() => end(null), msMax * 3)
    socket.on('error', () => end(null))
    socket.on('close', () => end(null))
    readMessages(socket, end)
    socket.write(withLength(query))
  })
}

function withLength(message: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(message.length)
  return Buffer.concat([length, message])
}

/** Messages over TCP come with their length before them (RFC 1035, 4.2.2). */
function readMessages(socket: TcpSocket, heard: (message: Buffer) => void): void {
  const state: { rest: Buffer } = { rest: Buffer.alloc(0) }
  socket.on('data', (chunk: Buffer) => {
    state.rest = Buffer.concat([state.rest, chunk])
    while (state.rest.length >= 2 && state.rest.length >= 2 + state.rest.readUInt16BE(0)) {
      const length = state.rest.readUInt16BE(0)
      heard(state.rest.subarray(2, 2 + length))
      state.rest = state.rest.subarray(2 + length)
    }
    if (state.rest.length > 65_537) socket.destroy()
  })
}
