import { PlatformError } from '@roost/base'
import type { MachineRestart, StopConfig } from '@roost/core'

/** Rules that several parts of a configuration share. Each throws `invalid` with the path of the key. */

export function quote(text: string): string {
  return JSON.stringify(text.slice(0, 100))
}

export function invalid(path: string, why: string): PlatformError {
  return new PlatformError('invalid', `${path}: ${why}`)
}

const PATH_CHARS_MAX = 1_000

/** A path in a machine. One way to write each, so that two that are equal look so. */
export function absolutePath(value: string, path: string): string {
  const parts = value.split('/').slice(1)
  const plain = parts.every((part) => part !== '' && part !== '.' && part !== '..')
  if (!value.startsWith('/') || !plain || value.includes('\0') || value.length > PATH_CHARS_MAX)
    throw invalid(path, `${quote(value)} is no absolute path of a file, such as /etc/app/config`)
  return value
}

export function variableName(value: string, path: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]{0,199}$/.test(value)) return value
  throw invalid(path, `${quote(value)} is no name of an environment variable`)
}

/** Containers, volumes, checks. */
export function plainName(value: string, path: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/.test(value)) return value
  throw invalid(
    path,
    `${quote(value)} is no name: letters, digits, dashes, dots and underscores, at most 63`,
  )
}

/** Part of the id that containerd knows it by, which has one sign between two words and is at most 76 long. */
export function containerName(value: string, path: string): string {
  if (/^(?=.{1,61}$)[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$/.test(value)) return value
  throw invalid(
    path,
    `${quote(value)} is no name: letters and digits, with single dashes, dots or underscores between them, at most 61`,
  )
}

export function refuseTwice(values: readonly string[], path: (n: number) => string): void {
  const seen = new Map<string, number>()
  for (const [n, value] of values.entries()) {
    const before = seen.get(value)
    if (before !== undefined) throw invalid(path(n), `${quote(value)} is there twice`)
    seen.set(value, n)
  }
}

export function refuseMore(values: readonly unknown[], most: number, path: string): void {
  if (values.length > most) throw invalid(path, `at most ${most}, not ${values.length}`)
}

export function wholeBetween(value: number, min: number, max: number, path: string): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value
  throw invalid(path, `${value} is not between ${min} and ${max}`)
}

const STOP_MS = 5_000
const STOP_MS_MAX = 300_000
const MAX_RETRIES = 10

export function restartOf(input: {
  policy?: MachineRestart['policy'] | '' | undefined
  max_retries?: number | undefined
}): MachineRestart {
  return {
    policy: input.policy || 'on-failure',
    max_retries: input.max_retries ?? MAX_RETRIES,
  }
}

export function stopOf(
  input: {
    signal?: StopConfig['signal'] | '' | null | undefined
    timeout?: number | null | undefined
  },
  path: string,
): StopConfig {
  const timeout = input.timeout ?? STOP_MS
  if (timeout < 0 || timeout > STOP_MS_MAX) throw invalid(`${path}.timeout`, 'at most 300s')
  return { signal: input.signal || 'SIGINT', timeout_ms: Math.round(timeout) }
}
