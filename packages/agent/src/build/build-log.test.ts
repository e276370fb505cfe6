import { expect, test } from 'vitest'
import { createBuildLog } from './build-log.ts'

const steps = [
  { line: 1, rewritten: 'FROM a', original: 'FROM a' },
  { line: 4, rewritten: 'RUN ["/bin/sh","-c","x\\n"]', original: 'RUN <<EOF (x…)' },
]
const addAll = (lines: readonly string[]) => {
  const log = createBuildLog(steps)
  return { log, events: lines.map((line) => log.add(line)).filter((event) => event !== null) }
}

test('steps carry the words of the Dockerfile, what buildah says of itself is left out', () => {
  const { events } = addAll([
    'STEP 1/2: FROM a',
    'Getting image source signatures',
    'Copying blob sha256:0',
    'STEP 2/3: LABEL roost.cache=5e4f',
    '--> Using cache 0123456789abcdef',
    '[1/2] STEP 2/2: RUN ["/bin/sh","-c","x\\n"]',
    'hello',
    '',
    '--> 0123456789ab',
    '[2/2] COMMIT',
  ])
  expect(events).toEqual([
    { kind: 'step', name: '1/2 FROM a' },
    { kind: 'step', name: '2/2 RUN <<EOF (x…)' },
    { kind: 'output', text: 'hello' },
  ])
})

test('a failure names line, step and reason, and ends with what the step said last', () => {
  const { log, events } = addAll([
    'STEP 2/2: RUN ["/bin/sh","-c","x\\n"]',
    'Error: Cannot find module',
    'more',
    'Error: building at STEP "RUN [\\"/bin/sh\\",\\"-c\\"]": while running runtime: exit status 3',
  ])
  expect(events.at(-1)).toEqual({ kind: 'output', text: 'more' })
  expect(log.failure()).toBe(
    'Dockerfile line 4: RUN <<EOF (x…): exit status 3\nError: Cannot find module\nmore',
  )
})

test('an image that nobody has is told in a sentence', () => {
  const of = (cause: string) => {
    const { log } = addAll([
      'STEP 1/2: FROM a',
      `Error: creating build container: initializing source docker://a:1: (Mirrors also failed: [10.0.0.1:5000/docker.io/library/a:1: manifest unknown]): docker.io/library/a:1: ${cause}`,
    ])
    return log.failure()
  }
  expect(of('pinging container registry: dial tcp: lookup x: no such host')).toBe(
    'Dockerfile line 1: FROM a: image a:1 is not in the mirror, and its registry does not answer (no such host); see: roost mirror list',
  )
  expect(of('reading manifest: manifest unknown')).toContain('there is no image a:1')
})

test('output is bounded and can not move the cursor', () => {
  const log = createBuildLog()
  expect(log.add('\u001b[2K\u001b[31mred\u001b[0m\u0007\tx')).toEqual({
    kind: 'output',
    text: '\u001b[31mred\u001b[0m\tx',
  })
  const events = Array.from({ length: 2200 }, () => log.add('x'.repeat(4000)))
  expect(events.filter((event) => event !== null).length).toBe(2000)
  expect(
    events.find((event) => event?.kind === 'output' && event.text.startsWith('…')),
  ).toBeTruthy()
  expect(log.lastLines(1)).toEqual(['x'.repeat(4000)])
})
