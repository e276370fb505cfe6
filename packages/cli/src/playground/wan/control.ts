import { existsSync, rmSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { createInterface } from 'node:readline'
import type { Faults } from './links.ts'
import type { SwitchCounters } from './switch-loop.ts'

/** What may be asked of a running WAN: one JSON object a line on its unix socket, one line back. */
export type WanCommand =
  | { readonly command: 'cut' | 'heal'; readonly a: string; readonly b: string }
  /** A round trip; null: as usual. */
  | {
      readonly command: 'delay'
      readonly a: string
      readonly b: string
      readonly ms: number | null
    }
  | { readonly command: 'loss'; readonly a: string; readonly b: string; readonly percent: number }
  | { readonly command: 'port'; readonly endpoint: string; readonly up: boolean }
  | { readonly command: 'stats' }

export type WanReply =
  | {
      readonly ok: true
      readonly faults: Faults
      readonly endpoints: readonly string[]
      readonly counters: SwitchCounters
    }
  | { readonly ok: false; readonly error: string }

const LINE_BYTES_MAX = 10_000
const CONNECTIONS_MAX = 32
const REPLY_MS_MAX = 5000

export function listenForCommands(
  path: string,
  carryOut: (command: WanCommand) => Promise<WanReply>,
): Server {
  if (existsSync(path)) rmSync(path)
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.setTimeout(60_000, () => socket.destroy())
    socket.on('data', () => {
      if (socket.bytesRead > LINE_BYTES_MAX) socket.destroy()
    })
    const lines = createInterface({ input: socket })
    // It passes on the errors of the socket, which is closed by them already.
    lines.on('error', () => {})
    lines.on('line', async (line) => {
      const reply = await answer(line, carryOut)
      if (!socket.destroyed) socket.write(`${JSON.stringify(reply)}\n`)
    })
  })
  server.maxConnections = CONNECTIONS_MAX
  server.listen(path)
  return server
}

async function answer(
  line: string,
  carryOut: (command: WanCommand) => Promise<WanReply>,
): Promise<WanReply> {
  try {
    return await carryOut(JSON.parse(line) as WanCommand)
  } catch (error) {
    return { ok: false, error: error instanceof Error ? error.message : String(error) }
  }
}

/** Asks a running WAN; rejects when it does not answer within 5 s. */
export function askWan(path: string, command: WanCommand): Promise<WanReply> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    const heard: Buffer[] = []
    const fail = (error: Error) => {
      socket.destroy()
      reject(error)
    }
    socket.setTimeout(REPLY_MS_MAX, () => fail(new Error('the simulated network does not answer')))
    socket.on('error', fail)
    socket.on('close', () => reject(new Error('the simulated network hung up')))
    socket.on('data', (chunk) => {
      heard.push(chunk)
      const text = Buffer.concat(heard).toString('utf8')
      if (!text.includes('\n')) return
      resolve(JSON.parse(text.slice(0, text.indexOf('\n'))) as WanReply)
      socket.end()
    })
    socket.write(`${JSON.stringify(command)}\n`)
  })
}
