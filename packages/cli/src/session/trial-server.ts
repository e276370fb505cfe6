import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { type RouteName, type RouteSpec, routes } from '@roost/api'
import type { CliContext } from '../cli-context.ts'
import { runCli } from '../run-cli.ts'

/** For tests: an HTTP server that speaks the route table, and a terminal that remembers what was printed on it. */

export interface TrialCall {
  readonly route: RouteName
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  readonly headers: IncomingMessage['headers']
  /** JSON where it is that, else the bytes. */
  readonly body: unknown
}

/** A value to answer with, or a refusal, or lines with what happens between them. */
export type TrialAnswer =
  | { readonly value: unknown }
  | { readonly refusal: { readonly status: number; readonly code: string; readonly error: string } }
  | { readonly lines: (response: ServerResponse) => AsyncIterable<unknown> }
export type TrialAnswers = Partial<Record<RouteName, (call: TrialCall) => TrialAnswer>> & {
  /** Of each reply. */
  readonly headers?: Readonly<Record<string, string>>
}

export interface TrialServer {
  readonly url: string
  readonly calls: TrialCall[]
  /** The calls of one route. */
  of(route: RouteName): TrialCall[]
  close(): Promise<void>
}

export async function startTrialServer(answers: TrialAnswers): Promise<TrialServer> {
  const calls: TrialCall[] = []
  const server = createServer((request, response) => {
    void answer(request, response).catch(() => response.destroy())
  })
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'http://trial')
    const route = routeOf(request.method ?? '', url.pathname)
    const bytes: Buffer[] = []
    for await (const chunk of request) bytes.push(chunk)
    const handler = route === null ? undefined : answers[route]
    const reply = (status: number, value: unknown) => {
      response.writeHead(status, {
        'content-type': 'application/json',
        'fly-request-id': 'trial',
        ...answers.headers,
      })
      response.end(JSON.stringify(value))
    }
    if (route === null || handler === undefined)
      return reply(404, {
        error: `no answer to ${request.method} ${url.pathname}`,
        code: 'not_found',
      })
    const call: TrialCall = {
      route,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      headers: request.headers,
      body: parsed(Buffer.concat(bytes)),
    }
    calls.push(call)
    const said = handler(call)
    if ('refusal' in said) return reply(said.refusal.status, said.refusal)
    if ('value' in said) return reply(200, said.value)
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    response.flushHeaders()
    for await (const line of said.lines(response)) response.write(`${JSON.stringify(line)}\n`)
    response.end()
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    of: (route) => calls.filter((call) => call.route === route),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function routeOf(method: string, path: string): RouteName | null {
  for (const [name, spec] of Object.entries(routes as Record<string, RouteSpec>)) {
    const pattern = new RegExp(`^${spec.path.replaceAll('.', '\\.').replace(/:\w+/g, '[^/]+')}$`)
    if (spec.method === method && pattern.test(path)) return name as RouteName
  }
  return null
}

function parsed(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    return bytes
  }
}

export interface TrialTerminal {
  readonly context: CliContext
  /** Presses Ctrl-C. */
  interrupt(): void
  run(...argv: string[]): Promise<{ code: number; out: string; err: string }>
}

export function trialTerminal(options: {
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  readonly columns?: number
}): TrialTerminal {
  const written = { out: '', err: '' }
  const interrupted = new AbortController()
  const isTTY = options.columns !== undefined
  const screen = (name: 'out' | 'err') => ({
    isTTY,
    ...(options.columns === undefined ? {} : { columns: options.columns }),
    write: (text: string | Uint8Array) => {
      written[name] += typeof text === 'string' ? text : Buffer.from(text).toString('utf8')
    },
  })
  const context: CliContext = {
    env: { HOME: options.cwd, XDG_CONFIG_HOME: `${options.cwd}/.config`, ...options.env },
    cwd: options.cwd,
    stdin: Readable.from(options.input === undefined ? [] : [Buffer.from(options.input)]),
    stdout: screen('out'),
    stderr: screen('err'),
    interrupted: () => interrupted.signal,
  }
  return {
    context,
    interrupt: () => interrupted.abort(),
    async run(...argv) {
      written.out = ''
      written.err = ''
      const code = await runCli(argv, context)
      return { code, out: written.out, err: written.err }
    },
  }
}
