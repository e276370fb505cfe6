import { z } from 'zod'
import { ERRORS, type ErrorCode } from './errors.ts'
import { type RouteName, type RouteSpec, type Routes, routes } from './routes.ts'
import { VERSION_HEADER } from './version.ts'

/**
 * A method for each route, made from the route table: what goes in and comes out has the types of its schemas, and
 * replies are checked. A browser uses it too, so `fetch` comes from outside and nothing here is Node's.
 */
export type ApiClient = {
  readonly [Name in CallableRoute]: (
    ...args: CallArgs<Routes[Name]>
  ) => Routes[Name]['reply'] extends 'lines'
    ? AsyncIterable<LineOf<Routes[Name]>>
    : Promise<ReplyOf<Routes[Name]>>
}

/** All but WebSockets, which are opened in a way of their own. */
type CallableRoute = {
  [Name in RouteName]: Routes[Name]['reply'] extends 'socket' ? never : Name
}[RouteName]

export interface CallOptions {
  readonly signal?: Aborts | undefined
  readonly headers?: Readonly<Record<string, string>>
  /** Gives up on a reply that takes longer. Default: the client's; a `lines` route has none. */
  readonly timeoutMs?: number
}

type CallArgs<Spec> =
  Record<string, never> extends InputOf<Spec>
    ? [input?: InputOf<Spec>, options?: CallOptions]
    : [input: InputOf<Spec>, options?: CallOptions]
type InputOf<Spec> = ParamsOf<Spec> & QueryOf<Spec> & BodyOf<Spec>
type ParamsOf<Spec> = Spec extends { params: infer S extends z.ZodType }
  ? { readonly params: z.input<S> }
  : unknown
type QueryOf<Spec> = Spec extends { query: infer S extends z.ZodType }
  ? { readonly query?: z.input<S> }
  : unknown
type BodyOf<Spec> = Spec extends { body: 'stream' }
  ? { readonly body: ByteStream }
  : Spec extends { body: infer S extends z.ZodType }
    ? undefined extends z.input<S>
      ? { readonly body?: z.input<S> }
      : { readonly body: z.input<S> }
    : unknown
type ReplyOf<Spec> = Spec extends { reply: infer S extends z.ZodType } ? z.output<S> : undefined
type LineOf<Spec> = Spec extends { line: infer S extends z.ZodType } ? z.output<S> : unknown

/** The parts of AbortSignal, fetch and its reply that the client uses; the real ones fit. */
export interface Aborts {
  readonly aborted: boolean
}
export type ByteStream = AsyncIterable<Uint8Array>
export interface FetchInit {
  readonly method: string
  readonly headers: Record<string, string>
  readonly body?: string | ByteStream
  readonly signal?: Aborts | undefined
  /** Bounds the wait for the first byte of the reply; absent: as long as it takes. */
  readonly timeoutMs?: number | undefined
}
export interface FetchReply {
  readonly status: number
  readonly headers: { get(name: string): string | null }
  readonly body: {
    getReader(): {
      read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>
      cancel(): Promise<void>
    }
  } | null
  text(): Promise<string>
}
export type Fetch = (url: string, init: FetchInit) => Promise<FetchReply>

/** The server answered, and its answer was no. What never reached it, or never came back, is thrown as `fetch` threw it. */
export class ApiError extends Error {
  readonly status: number
  readonly code: ErrorCode
  /** Leads to the request in the server's log; null when the answer carried none. */
  readonly requestId: string | null
  /** `getApp` and so on. */
  readonly route: RouteName
  /** By the server's clock, in seconds' precision: the header `date`. */
  readonly serverTime: string | null
  constructor(
    route: RouteName,
    answer: {
      status: number
      code: ErrorCode
      message: string
      requestId: string | null
      serverTime?: string | null
    },
  ) {
    super(answer.message)
    this.name = 'ApiError'
    this.route = route
    this.status = answer.status
    this.code = answer.code
    this.requestId = answer.requestId
    this.serverTime = answer.serverTime ?? null
  }
}

const LINE_BYTES_MAX = 4_000_000
const REPLY_TIMEOUT_MS = 60_000

export function createApiClient(options: {
  /** `https://10.0.0.1:4280`, with or without a slash at its end. */
  readonly baseUrl: string
  /** Absent: only `open` routes will answer. */
  readonly token?: string | undefined
  readonly fetch: Fetch
  /** Sent with each request, so that the server's log says who calls. */
  readonly userAgent?: string
  /** Sent with each request, so that a server that would not understand it says so. */
  readonly version?: string
  /** Default 60 s. */
  readonly timeoutMs?: number
}): ApiClient {
  const baseUrl = options.baseUrl.replace(/\/+$/, '')

  async function send(name: RouteName, spec: RouteSpec, input: AnyInput, call: CallOptions) {
    const headers: Record<string, string> = { accept: 'application/json', ...call.headers }
    if (options.token !== undefined) headers['authorization'] = `Bearer ${options.token}`
    if (options.userAgent !== undefined) headers['user-agent'] = options.userAgent
    if (options.version !== undefined) headers[VERSION_HEADER] = options.version
    const body = bodyOf(spec, input, headers)
    const reply = await options.fetch(baseUrl + urlOf(spec, input), {
      method: spec.method,
      headers,
      signal: call.signal,
      timeoutMs:
        call.timeoutMs ??
        (spec.reply === 'lines' ? undefined : (options.timeoutMs ?? REPLY_TIMEOUT_MS)),
      ...(body === undefined ? {} : { body }),
    })
    if (reply.status < 200 || reply.status > 299) throw await refusalOf(name, reply)
    return reply
  }

  async function value(name: RouteName, spec: RouteSpec, input: AnyInput, call: CallOptions) {
    const reply = await send(name, spec, input, call)
    const text = await reply.text()
    if (!(spec.reply instanceof z.ZodType)) return undefined
    return checked(name, spec.reply, text, reply)
  }

  async function* lines(
    name: RouteName,
    spec: RouteSpec,
    input: AnyInput,
    call: CallOptions,
  ): AsyncGenerator<unknown> {
    const reply = await send(name, spec, input, call)
    for await (const text of linesOf(reply)) {
      // An empty line keeps a quiet connection open.
      if (text !== '') yield checked(name, spec.line ?? z.unknown(), text, reply)
    }
  }

  const methods = Object.entries(routes as Record<string, RouteSpec>).map(([name, spec]) => [
    name,
    (input: AnyInput = {}, call: CallOptions = {}) =>
      spec.reply === 'lines'
        ? lines(name as RouteName, spec, input, call)
        : value(name as RouteName, spec, input, call),
  ])
  return Object.fromEntries(methods) as ApiClient
}

interface AnyInput {
  readonly params?: Readonly<Record<string, unknown>>
  readonly query?: Readonly<Record<string, unknown>>
  readonly body?: unknown
}

function urlOf(spec: RouteSpec, input: AnyInput): string {
  const path = spec.path.replace(/:(\w+)/g, (_, key: string) =>
    encodeURIComponent(String(input.params?.[key] ?? '')),
  )
  const pairs = Object.entries(input.query ?? {}).flatMap(([key, value]) =>
    (Array.isArray(value) ? value : [value])
      .filter((one) => one !== undefined && one !== null)
      .map((one) => `${encodeURIComponent(key)}=${encodeURIComponent(String(one))}`),
  )
  return pairs.length === 0 ? path : `${path}?${pairs.join('&')}`
}

function bodyOf(
  spec: RouteSpec,
  input: AnyInput,
  headers: Record<string, string>,
): string | ByteStream | undefined {
  if (input.body === undefined || spec.body === undefined) return undefined
  if (spec.body === 'stream') {
    headers['content-type'] ??= 'application/octet-stream'
    return input.body as ByteStream
  }
  headers['content-type'] = 'application/json'
  return JSON.stringify(input.body)
}

function checked(name: RouteName, schema: z.ZodType, text: string, reply: FetchReply): unknown {
  const parsed = schema.safeParse(parseJson(text))
  if (parsed.success) return parsed.data
  throw new ApiError(name, {
    status: reply.status,
    code: 'internal',
    message: `the answer to ${name} is not what this version understands: ${z.prettifyError(parsed.error).replaceAll('\n', ' ')}`,
    requestId: requestIdOf(reply),
  })
}

async function refusalOf(route: RouteName, reply: FetchReply): Promise<ApiError> {
  const text = await reply.text()
  const body = parseJson(text)
  const field = (key: string): string | null => {
    const value =
      typeof body === 'object' && body !== null ? (body as Record<string, unknown>)[key] : null
    return typeof value === 'string' && value !== '' ? value : null
  }
  return new ApiError(route, {
    status: reply.status,
    code: codeOf(reply.status, field('code') ?? field('status')),
    // The Machines API allows both names; what is no JSON (a proxy's page) is shown as far as a person would read it.
    message: field('message') ?? field('error') ?? (text.trim().slice(0, 300) || 'no reason given'),
    requestId: field('request_id') ?? requestIdOf(reply),
    serverTime: reply.headers.get('date'),
  })
}

function codeOf(status: number, said: string | null): ErrorCode {
  if (said !== null && Object.hasOwn(ERRORS, said)) return said as ErrorCode
  const byStatus = Object.entries(ERRORS).find(([, error]) => error.status === status)
  if (byStatus !== undefined) return byStatus[0] as ErrorCode
  return status >= 500 ? 'internal' : 'invalid'
}

function requestIdOf(reply: FetchReply): string | null {
  return reply.headers.get('fly-request-id') ?? reply.headers.get('x-request-id')
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Part of every JavaScript that has fetch, but not of the language's own library. */
declare const TextDecoder: new () => {
  decode(bytes?: Uint8Array, options?: { stream?: boolean }): string
}

async function* linesOf(reply: FetchReply): AsyncGenerator<string> {
  if (reply.body === null) return
  const reader = reply.body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  let ended = false
  try {
    while (!ended) {
      const { done, value } = await reader.read()
      ended = done
      const parts = (rest + decoder.decode(value, { stream: !done })).split('\n')
      rest = parts.pop() ?? ''
      if (rest.length > LINE_BYTES_MAX) throw new Error('a line of the answer is longer than 4 MB')
      for (const part of parts) yield part.endsWith('\r') ? part.slice(0, -1) : part
    }
    if (rest !== '') yield rest
  } finally {
    if (!ended) await reader.cancel().catch(() => {})
  }
}
