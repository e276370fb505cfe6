import type { Readable } from 'node:stream'
import type { ExecLimits, ExecResult, ExecSession } from './exec-session.ts'

const OUTPUT_BYTES_MAX = 1_000_000

/** Runs a session to its end, or to the end of its time, and closes it. An abort ends it too, and is thrown. */
export async function collectSession(
  session: ExecSession,
  { stdin, timeoutMs, outputBytesMax = OUTPUT_BYTES_MAX }: ExecLimits,
  signal: AbortSignal,
): Promise<ExecResult> {
  let ended = () => {}
  let late = false
  const end = new Promise<void>((resolve) => {
    ended = resolve
  })
  const timer = setTimeout(() => {
    late = true
    ended()
  }, timeoutMs)
  signal.addEventListener('abort', ended, { once: true })
  if (signal.aborted) ended()
  try {
    // A program may end without having read all.
    session.stdin.on('error', () => {})
    session.stdin.end(stdin)
    const out = collector(session.stdout, outputBytesMax)
    const err = collector(session.stderr, outputBytesMax)
    const done = Promise.all([session.exit, out.ended, err.ended])
    const code = await Promise.race([done.then(([exit]) => exit), end.then(() => null)])
    signal.throwIfAborted()
    return {
      exitCode: late ? null : code,
      stdout: out.bytes(),
      stderr: err.bytes(),
      stdoutCut: out.cut(),
      stderrCut: err.cut(),
    }
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', ended)
    await session.close()
  }
}

function collector(stream: Readable, bytesMax: number) {
  const chunks: Buffer[] = []
  let kept = 0
  let cut = 0
  stream.on('data', (chunk: Buffer) => {
    const part = chunk.subarray(0, bytesMax - kept)
    if (part.length > 0) chunks.push(part)
    kept += part.length
    cut += chunk.length - part.length
  })
  return {
    ended: new Promise<void>((resolve) => {
      stream.once('end', resolve)
      stream.once('close', resolve)
      stream.once('error', () => resolve())
    }),
    bytes: () => Buffer.concat(chunks),
    cut: () => cut,
  }
}
