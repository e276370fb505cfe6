import { randomBytes } from 'node:crypto'

/**
 * A few bytes that are sent through a machine's output to see whether they arrive in its log: an "application program command",
 * which terminals ignore. Readers of logs never see it. It has no newline, so that it ends no line.
 */
export type Mark = Buffer

const ESCAPE = '\u001b'
const BEGIN = Buffer.from(`${ESCAPE}_roost `, 'latin1')
const LENGTH = BEGIN.length + 16 + 2
const MARKS = new RegExp(`${ESCAPE}_roost [0-9a-f]{16}${ESCAPE}\\\\`, 'g')

export function newMark(): Mark {
  return Buffer.from(`${ESCAPE}_roost ${randomBytes(8).toString('hex')}${ESCAPE}\\`, 'latin1')
}

export function hasMark(data: Buffer): boolean {
  return data.length >= LENGTH && data.includes(BEGIN)
}

export function withoutMarks(line: Buffer): Buffer {
  if (!hasMark(line)) return line
  return Buffer.from(line.toString('latin1').replaceAll(MARKS, ''), 'latin1')
}
