import { appendFileSync, renameSync, statSync, writeSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
import { describeError } from './platform-error.ts'

export type Fields = Readonly<Record<string, unknown>>
export interface Logger {
  debug(message: string, fields?: Fields): void
  info(message: string, fields?: Fields): void
  warn(message: string, fields?: Fields): void
  error(message: string, fields?: Fields): void
  child(fields: Fields): Logger
}

type Level = 'debug' | 'info' | 'warn' | 'error'
const LEVELS: readonly Level[] = ['debug', 'info', 'warn', 'error']
const FILE_BYTES_MAX = 10_000_000

/**
 * One JSON object a line. To `file` if given (kept under 10 MB, with one older file beside it), else to standard error.
 * Logging never throws: a full disk must not stop a program.
 */
export function createLogger(options: {
  program: string
  file?: string | undefined
  level?: Level
}): Logger {
  const levelMin = LEVELS.indexOf(options.level ?? 'info')
  let written = sizeOf(options.file)

  function write(level: Level, message: string, fields: Fields): void {
    if (LEVELS.indexOf(level) < levelMin) return
    const plain = Object.fromEntries(
      Object.entries(fields).map(([k, v]) => [k, v instanceof Error ? describeError(v) : v]),
    )
    const line = `${JSON.stringify({ at: new Date().toISOString(), level, program: options.program, message, ...plain })}\n`
    try {
      if (options.file === undefined) {
        // The stream of another thread leads through the main one, which may be the one that hangs.
        if (isMainThread) process.stderr.write(line)
        else writeSync(2, line)
        return
      }
      if (written + line.length > FILE_BYTES_MAX) {
        renameSync(options.file, `${options.file}.1`)
        written = 0
      }
      appendFileSync(options.file, line, { mode: 0o600 })
      written += line.length
    } catch {
      // Nowhere left to say it.
    }
  }

  const make = (bound: Fields): Logger => ({
    debug: (message, fields) => write('debug', message, { ...bound, ...fields }),
    info: (message, fields) => write('info', message, { ...bound, ...fields }),
    warn: (message, fields) => write('warn', message, { ...bound, ...fields }),
    error: (message, fields) => write('error', message, { ...bound, ...fields }),
    child: (fields) => make({ ...bound, ...fields }),
  })
  return make({})
}

/** For tests and the simulator. */
export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLogger,
}

function sizeOf(file: string | undefined): number {
  try {
    return file === undefined ? 0 : statSync(file).size
  } catch {
    return 0
  }
}
