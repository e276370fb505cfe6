import { closeSync, constants, mkdirSync, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { runCommand } from '@roost/base'

const { O_NONBLOCK, O_RDONLY, O_RDWR } = constants
const MKFIFO_MS_MAX = 5000

/** The named pipes of one exec, in a directory of its own on tmpfs. `stderr` is null with a terminal. */
export interface ExecPipes {
  readonly stdin: string
  readonly stdout: string
  readonly stderr: string | null
  /** Before the start: the shim waits for a reader. */
  open(): { readonly stdin: number; readonly stdout: number; readonly stderr: number | null }
}

export async function makePipes(dir: string, terminal: boolean): Promise<ExecPipes> {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const [stdin, stdout] = [join(dir, 'in'), join(dir, 'out')]
  const stderr = terminal ? null : join(dir, 'err')
  // Node has no call for it.
  await runCommand(['mkfifo', '-m', '600', stdin, stdout, ...(stderr === null ? [] : [stderr])], {
    timeoutMs: MKFIFO_MS_MAX,
  })
  return {
    stdin,
    stdout,
    stderr,
    open() {
      const opened: number[] = []
      const opener = (path: string, flags: number) => {
        const fd = openSync(path, flags | O_NONBLOCK)
        opened.push(fd)
        return fd
      }
      try {
        return {
          stdin: opener(stdin, O_RDWR),
          stdout: opener(stdout, O_RDONLY),
          stderr: stderr === null ? null : opener(stderr, O_RDONLY),
        }
      } catch (error) {
        for (const fd of opened) closeSync(fd)
        throw error
      }
    },
  }
}

/** Only once somebody has the other end: without a writer a pipe is at its end at once. */
export function pipeReader(fd: number): Socket {
  return new Socket({ fd, readable: true, writable: false })
}

/**
 * Writes to a pipe as fast as it is read. When all was written the pipe is closed, and `onEnd` tells the shim, which holds
 * its other end open.
 */
export function pipeWriter(fd: number, onEnd: () => Promise<void>): Writable {
  const socket = new Socket({ fd, readable: false, writable: true })
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  const writer = new Writable({
    highWaterMark: 65_536,
    write: (chunk: Buffer, _encoding, done) => void socket.write(chunk, done),
    final(done) {
      socket.destroy()
      closed.then(onEnd).then(() => done(), done)
    },
    destroy(error, done) {
      socket.destroy()
      done(error)
    },
  })
  socket.on('error', (error) => writer.destroy(error))
  return writer
}
