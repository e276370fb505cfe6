import type { RouteName, Routes } from '@roost/api'
import type { MessageSocket } from '@roost/base'
import type { Policy, TokenId } from '@roost/core'
import type { FastifyRequest } from 'fastify'
import type { z } from 'zod'

/** Who calls: the token's name and what it may do. null on `open` routes without one. */
export interface Caller {
  readonly name: string
  readonly policy: Policy
  /** Absent: the server itself. What stays open for long holds it meanwhile (`TokenWatch`). */
  readonly token?: TokenId
}

/** A call that passed its route's schemas and the caller's policy. */
export interface Call<K extends RouteName> {
  readonly params: ParamsOf<Routes[K]>
  readonly query: QueryOf<Routes[K]>
  /** Of `stream` routes an AsyncIterable of bytes. */
  readonly body: BodyOf<Routes[K]>
  readonly caller: CallerOf<Routes[K]>
  readonly headers: FastifyRequest['headers']
  /** Aborts when the client goes. Of a route with lines or a stream also when the token ends. */
  readonly signal: AbortSignal
}

type ParamsOf<Spec> = Spec extends { params: infer S extends z.ZodType } ? z.output<S> : unknown
type QueryOf<Spec> = Spec extends { query: infer S extends z.ZodType } ? z.output<S> : unknown
type BodyOf<Spec> = Spec extends { body: 'stream' }
  ? AsyncIterable<Uint8Array>
  : Spec extends { body: infer S extends z.ZodType }
    ? z.output<S>
    : unknown
type CallerOf<Spec> = Spec extends { action: 'open' } ? Caller | null : Caller
type LineOf<Spec> = Spec extends { line: infer S extends z.ZodType } ? z.input<S> : unknown

/**
 * `lines` and `socket` routes answer with a function that is run once all checks have passed: what can be refused is refused
 * before. The function of a `socket` route returns when the session is over; it never throws.
 */
export type ReplyOf<Spec> = Spec extends { reply: 'lines' }
  ? (signal: AbortSignal) => AsyncIterable<LineOf<Spec>>
  : Spec extends { reply: 'socket' }
    ? (socket: MessageSocket) => Promise<void>
    : Spec extends { reply: infer S extends z.ZodType }
      ? z.input<S>
      : undefined

export type Handler<K extends RouteName> = (call: Call<K>) => Promise<ReplyOf<Routes[K]>>

/** One for each route of the table: a missing one does not compile. Each resource's file makes a part. */
export type Handlers = { readonly [K in RouteName]: Handler<K> }
