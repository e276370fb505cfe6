import type { BuildEvent } from '@roost/api'
import { isOwnStep, type Step } from './dockerfile/rewrite-dockerfile.ts'

/** Turns buildah's output into events, bounded, and keeps what is needed to say why a build failed. */
export interface BuildLog {
  /** null: not worth a line. */
  add(line: string): BuildEvent | null
  lastLines(count: number): readonly string[]
  /** Line of the Dockerfile, step, reason, and the last lines that the step printed. */
  failure(): string
}

const OUTPUT_CHARS_MAX = 8_000_000
const KEPT_LINES = 60
const LAST_LINES = 20
const ESCAPE = String.fromCharCode(27)
const MOVES = new RegExp(`${ESCAPE}\\[[0-9;?]*[A-HJKSTfhlnsu]`, 'g')
/** All but tab and escape. */
const CONTROLS = new RegExp(`(?![\t${ESCAPE}])\\p{Cc}`, 'gu')
const STEP = /^(?:\[\d+\/\d+\] )?STEP (\d+\/\d+): (.*)$/

export function createBuildLog(steps: readonly Step[] = []): BuildLog {
  const written = new Map(steps.map((step) => [normal(step.rewritten), step]))
  const kept: string[] = []
  let chars = 0
  let cut = false
  let step: { readonly text: string; readonly line: number | null } | null = null
  let sinceStep: string[] = []
  let inOwnStep = false

  return {
    add(raw) {
      const line = withoutControls(raw)
      const started = STEP.exec(line)
      if (started !== null) inOwnStep = isOwnStep(started[2] ?? '')
      if (inOwnStep && (started !== null || line.startsWith('--> '))) return null
      if (started !== null) {
        const found = written.get(normal(started[2] ?? ''))
        step = { text: found?.original ?? started[2] ?? '', line: found?.line ?? null }
        sinceStep = []
        return { kind: 'step', name: `${started[1]} ${step.text}` }
      }
      if (line.trim() === '') return null
      keep(kept, line)
      if (isNoise(line)) return null
      keep(sinceStep, line)
      chars += line.length
      if (chars <= OUTPUT_CHARS_MAX) return { kind: 'output', text: line }
      if (cut) return null
      cut = true
      return {
        kind: 'output',
        text: `… more than ${OUTPUT_CHARS_MAX / 1e6} MB of output: the rest is not shown`,
      }
    },
    lastLines: (count) => kept.slice(-count),
    failure() {
      // Programs say `Error: ` too; buildah's own word is the last one.
      const at = kept.findLastIndex((line) => line.startsWith('Error: '))
      const error = kept[at] ?? kept.at(-1) ?? 'buildah ended without a word'
      const place =
        step === null
          ? ''
          : `${step.line === null ? '' : `Dockerfile line ${step.line}: `}${step.text}: `
      const said = sinceStep.filter((line) => line !== error).slice(-LAST_LINES)
      return [place + reason(error.replace(/^Error: /, '')), ...said].join('\n')
    },
  }

  function keep(lines: string[], line: string): void {
    lines.push(line)
    if (lines.length > KEPT_LINES) lines.shift()
  }
}

/** buildah's chain of contexts around what went wrong is of no use to a person. */
function reason(error: string): string {
  const image = /initializing source docker:\/\/(\S+): /.exec(error)?.[1]
  if (image !== undefined) {
    const cause = error.split(': ').at(-1) ?? ''
    return /manifest unknown|denied|unauthorized/.test(cause)
      ? `there is no image ${image}, or it is not public`
      : `image ${image} is not in the mirror, and its registry does not answer (${cause}); see: roost mirror list`
  }
  const exit = /while running runtime: (exit status \d+|signal: \w+)$/.exec(error)
  if (exit !== null) return exit[1] ?? error
  return error.replace(/^building at STEP ".*?": /s, '').slice(0, 2000)
}

/** What buildah says of its own doings. */
function isNoise(line: string): boolean {
  return (
    /^(Error: (building at STEP|creating build container: initializing source) |Resolving "|Trying to pull |Getting image source signatures|Copying (blob|config) |(\[\d+\/\d+\] )?COMMIT|Writing manifest to image destination|Storing signatures|--> [0-9a-f]{11,}$|[0-9a-f]{64}$)/.test(
      line,
    ) || /^time=".*" level=(warning|error) msg=".*(exit status|cgroup)/.test(line)
  )
}

function normal(text: string): string {
  return text.replace(/\s+/g, ' ').trim()
}

/** Colours stay; what moves a cursor or rings a bell goes. */
function withoutControls(line: string): string {
  return line.replace(MOVES, '').replace(CONTROLS, '')
}
