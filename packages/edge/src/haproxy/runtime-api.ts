import { connect, type Socket } from 'node:net'
import { PlatformError } from '@roost/base'

/**
 * HAProxy's command line over its unix socket. One connection in interactive mode is kept, in which each answer ends with a
 * prompt; commands of a batch share a line. It says when that connection ends, which is when HAProxy did.
 */
export interface RuntimeApi {
  /** One answer for each command, trimmed; empty means done. Throws when HAProxy does not answer within 3 s. */
  send(commands: readonly string[]): Promise<readonly string[]>
  /** For a command with a payload, which needs a connection of its own. */
  sendPayload(command: string, payload: string): Promise<string>
  /** Drops the connection; the next `send` makes a new one. */
  disconnect(): void
}

const PROMPT = '\n> '
/** HAProxy reads a line into a buffer of 16 KB. */
const LINE_CHARS_MAX = 8000
const COMMANDS_MAX = 60
const ANSWER_BYTES_MAX = 64_000_000
const TIMEOUT_MS = 3000

export function createRuntimeApi(options: {
  readonly path: string
  /** The connection that was in use ended without `disconnect`. */
  readonly onLost: () => void
}): RuntimeApi {
  let open: Connection | null = null
  let queue: Promise<unknown> = Promise.resolve()

  async function connection(): Promise<Connection> {
    if (open !== null && !open.ended()) return open
    const made: Connection = await openConnection(options.path, () => {
      if (open !== made) return
      open = null
      options.onLost()
    })
    open = made
    await made.ask('prompt', 1)
    return made
  }

  async function sendNow(commands: readonly string[]): Promise<string[]> {
    const answers: string[] = []
    for (const batch of batches(commands)) {
      try {
        const to = await connection()
        answers.push(...(await to.ask(batch.join('; '), batch.length)))
      } catch (cause) {
        open?.close()
        open = null
        throw new PlatformError('unavailable', 'ask HAProxy', { cause, retry: 'later' })
      }
    }
    return answers
  }

  return {
    send(commands) {
      const bad = commands.find((command) => /[\n\r;\\]/.test(command))
      if (bad !== undefined)
        return Promise.reject(new Error(`not one command: ${JSON.stringify(bad)}`))
      const next = queue.then(() => sendNow(commands))
      queue = next.catch(() => {})
      return next
    },
    sendPayload: (command, payload) =>
      askOnce(options.path, `${command} <<\n${payload.replace(/\n+/g, '\n').trimEnd()}\n\n`),
    disconnect() {
      const was = open
      open = null
      was?.close()
    },
  }
}

/**
 * One line (or payload) on a connection of its own; resolves with all that HAProxy says until it closes it. The master closes
 * only what the other side has closed for writing.
 */
export function askOnce(path: string, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    const chunks: Buffer[] = []
    let bytes = 0
    // Of the whole answer: one that never ends is none.
    const late = setTimeout(() => socket.destroy(new Error('no answer')), TIMEOUT_MS)
    socket.on('connect', () => socket.end(text.endsWith('\n') ? text : `${text}\n`))
    socket.on('data', (chunk) => {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes > ANSWER_BYTES_MAX) socket.destroy(new Error('the answer does not end'))
    })
    socket.on('error', (cause) =>
      reject(new PlatformError('unavailable', 'ask HAProxy', { cause, retry: 'later' })),
    )
    socket.on('close', () => {
      clearTimeout(late)
      resolve(Buffer.concat(chunks).toString('utf8').trim())
    })
  })
}

interface Connection {
  ask(line: string, answers: number): Promise<string[]>
  ended(): boolean
  close(): void
}

async function openConnection(path: string, onEnd: () => void): Promise<Connection> {
  const socket = await new Promise<Socket>((resolve, reject) => {
    const made = connect(path)
    made.setTimeout(TIMEOUT_MS, () => made.destroy(new Error('no connection')))
    made.once('connect', () => resolve(made))
    made.once('error', reject)
  })
  socket.setTimeout(0)
  socket.setEncoding('utf8')
  let parts: string[] = []
  let bytes = 0
  let tail = ''
  let ended = false
  let waiting: {
    count: number
    done: (answers: string[]) => void
    fail: (e: Error) => void
  } | null = null

  socket.on('data', (chunk: string) => {
    if (waiting === null) return
    parts.push(chunk)
    bytes += chunk.length
    if (bytes > ANSWER_BYTES_MAX) {
      socket.destroy(new Error('the answer does not end'))
      return
    }
    // Looking through all of a long answer for each piece of it would take the square of its length.
    tail = (tail + chunk).slice(-PROMPT.length)
    if (tail !== PROMPT) return
    const answers = parts.join('').split(PROMPT)
    answers.pop()
    if (answers.length < waiting.count) return
    const { done } = waiting
    waiting = null
    done(answers.map((answer) => answer.trim()))
  })
  socket.on('error', (error) => {
    waiting?.fail(error)
    waiting = null
  })
  socket.on('close', () => {
    ended = true
    waiting?.fail(new Error('the connection ended'))
    waiting = null
    onEnd()
  })

  return {
    ask: (line, count) =>
      new Promise((resolve, reject) => {
        if (ended) return reject(new Error('the connection ended'))
        parts = []
        bytes = 0
        tail = ''
        const timer = setTimeout(
          () => socket.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)),
          TIMEOUT_MS,
        )
        waiting = {
          count,
          done: (answers) => {
            clearTimeout(timer)
            resolve(answers)
          },
          fail: (error) => {
            clearTimeout(timer)
            reject(error)
          },
        }
        socket.write(`${line}\n`)
      }),
    ended: () => ended,
    close: () => socket.destroy(),
  }
}

function batches(commands: readonly string[]): string[][] {
  const made: string[][] = []
  let chars = 0
  for (const command of commands) {
    const last = made.at(-1)
    if (
      last === undefined ||
      last.length >= COMMANDS_MAX ||
      chars + command.length > LINE_CHARS_MAX
    ) {
      made.push([command])
      chars = command.length
    } else {
      last.push(command)
      chars += command.length + 2
    }
  }
  return made
}
