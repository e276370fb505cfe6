import { z } from 'zod'

/** `POST …/exec` of the Machines API. `cmd` is split into words as a shell would; no shell runs it. */
export const execBody = z.looseObject({
  cmd: z.string().max(100_000).nullish(),
  command: z.array(z.string()).max(1000).nullish(),
  container: z.string().max(64).nullish(),
  /** In the machine's own container: the default. */
  machine: z.boolean().nullish(),
  user: z.string().max(128).nullish(),
  stdin: z.string().max(1_000_000).nullish(),
  /** Seconds; 0 is the default, 60. */
  timeout: z.number().min(0).max(900).nullish(),
})

export const execReply = z.looseObject({
  exit_code: z.int(),
  stdout: z.string(),
  /** When something was cut, its last line says so. */
  stderr: z.string(),
  /** Bytes that were left away at the end. */
  stdout_cut: z.int(),
  stderr_cut: z.int(),
})

export const PROCESS_ORDERS = ['pid', 'rss', 'cpu', 'rtime', 'stime', 'command'] as const
export const processQuery = z.looseObject({
  sort_by: z.enum(PROCESS_ORDERS).optional(),
  order: z.enum(['asc', 'desc']).optional(),
})

export const sessionQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(50),
  machine: z.string().max(14).optional(),
})

/** One that is going on, or was. */
export const sessionReply = z.object({
  id: z.string(),
  app: z.string(),
  /** null: of connections to whatever machine answered to a name. */
  machine: z.string().nullable(),
  container: z.string().nullable(),
  /** `exec`: asked and answered at once. `program`: with a connection of its own. `proxy`: connections to a port. */
  kind: z.enum(['exec', 'program', 'proxy']),
  /** The token's name, and its id where it has one. */
  token: z.string(),
  token_id: z.string().nullable(),
  user: z.string().nullable(),
  /** Words, as far as they were kept; of a proxy the name and port. */
  command: z.string(),
  terminal: z.boolean(),
  begun_at: z.string(),
  /** null: it goes on. */
  ended_at: z.string().nullable(),
  /** null: it did not end by itself. */
  exit_code: z.int().nullable(),
  /** Why it ended, in words, where its program did not end by itself. */
  reason: z.string().nullable(),
  /** To the machine. */
  bytes_in: z.int(),
  bytes_out: z.int(),
  connections: z.int(),
})
export type SessionReply = z.output<typeof sessionReply>
