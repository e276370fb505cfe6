import { spawn } from 'node:child_process'
import { PlatformError } from './platform-error.ts'

export interface CommandOptions {
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  readonly input?: string | Uint8Array
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** More output than this is cut. Default 4 MB each of stdout and stderr. */
  readonly outputBytesMax?: number
}

const KILLED_MS = 2000

/**
 * Runs a program (no shell) and waits for it. Throws a PlatformError with the last lines of its standard error
 * when it ends with anything but 0 or takes longer than `timeoutMs` (default 30 s): within 2 s of that, dead or not.
 */
export function runCommand(
  argv: readonly [string, ...string[]],
  options: CommandOptions = {},
): Promise<{ stdout: string; stderr: string }> {
  const { timeoutMs = 30_000, outputBytesMax = 4_000_000 } = options
  return new Promise((resolve, reject) => {
    const [program, ...args] = argv
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: options.env,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    const out = collector(outputBytesMax)
    const err = collector(outputBytesMax)
    let why: string | null = null
    const kill = (reason: string) => {
      if (why !== null) return
      why = reason
      child.kill('SIGKILL')
      // Its children may hold its output open, and what waits for a disk does not die.
      lastTimer = setTimeout(() => {
        for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy()
        child.unref()
        finish()
        reject(failure(argv, reason))
      }, KILLED_MS)
    }
    let lastTimer: NodeJS.Timeout | undefined
    const timer = setTimeout(() => kill(`no end after ${timeoutMs} ms`), timeoutMs)
    const onAbort = () => kill('aborted')
    options.signal?.addEventListener('abort', onAbort, { once: true })
    if (options.signal?.aborted) onAbort()
    const finish = () => {
      clearTimeout(timer)
      clearTimeout(lastTimer)
      options.signal?.removeEventListener('abort', onAbort)
    }
    child.stdout.on('data', out.add)
    child.stderr.on('data', err.add)
    child.stdin.on('error', () => {})
    child.stdin.end(options.input)
    child.on('error', (cause) => {
      finish()
      reject(new PlatformError('internal', `run ${program}`, { cause, retry: 'later' }))
    })
    child.on('close', (code, signalName) => {
      finish()
      if (code === 0 && why === null) return resolve({ stdout: out.text(), stderr: err.text() })
      const cause =
        why ??
        (err.text().trim().split('\n').slice(-5).join('\n') || `ended with ${code ?? signalName}`)
      reject(failure(argv, cause))
    })
  })
}

function failure(argv: readonly string[], cause: string): PlatformError {
  return new PlatformError('internal', `run ${argv.slice(0, 4).join(' ')}`, {
    cause: new Error(cause),
    retry: 'later',
  })
}

function collector(bytesMax: number) {
  const chunks: Buffer[] = []
  let bytes = 0
  return {
    add: (chunk: Buffer) => {
      if (bytes >= bytesMax) return
      const part = chunk.subarray(0, bytesMax - bytes)
      chunks.push(part)
      bytes += part.length
    },
    text: () => Buffer.concat(chunks).toString('utf8'),
  }
}
