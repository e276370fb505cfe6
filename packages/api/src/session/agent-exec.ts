import { z } from 'zod'
import { programStart } from './frames.ts'

/** `POST /agent/v1/machines/:id/exec`: bytes are in Base64. */
export const agentExecBody = programStart.omit({ terminal: true }).extend({
  stdin: z.string().default(''),
  timeout_ms: z.int().min(1).max(3_600_000),
  /** Kept of each stream. */
  output_bytes_max: z.int().min(0).max(8_000_000),
})
export type AgentExecBody = z.input<typeof agentExecBody>

export const agentExecReply = z.object({
  /** null: it was killed when its time was over. */
  exit_code: z.int().nullable(),
  stdout: z.string(),
  stderr: z.string(),
  /** Bytes that were left away at the end. */
  stdout_cut: z.int(),
  stderr_cut: z.int(),
})

/** As `GET …/ps` of the Machines API answers. Times are milliseconds, memory is bytes. */
export const processReply = z.object({
  /** As the machine itself counts. */
  pid: z.int(),
  /** In the kernel. */
  stime: z.int(),
  /** Since it was started. */
  rtime: z.int(),
  command: z.string(),
  directory: z.string(),
  /** Of a processor, in the kernel and outside. */
  cpu: z.int(),
  rss: z.int(),
  listen_sockets: z.array(z.object({ proto: z.string(), address: z.string() })),
})
export type ProcessReply = z.output<typeof processReply>
