import { CERTIFICATES } from './certificate-rows.ts'
import { CHANGES } from './change-rows.ts'
import { CHOOSING } from './choosing-rows.ts'
import { NUMBERS } from './number-rows.ts'
import { REPLAYS } from './replay-rows.ts'
import type { Row, Section } from './row.ts'
import { SERVICES } from './service-rows.ts'

/** In the order in which they are tested: what is killed, and what comes to its end, at last. */
export const SECTIONS: readonly Section[] = [
  { title: 'Services', rows: SERVICES },
  { title: 'Choosing a machine', rows: CHOOSING },
  { title: 'Replay', rows: REPLAYS },
  { title: 'Certificates', rows: CERTIFICATES },
  { title: 'Numbers', rows: NUMBERS },
  { title: 'While things change and die', rows: CHANGES },
]

const HEAD = `# The edge, row by row

What Roost's edges make of each thing that Fly's do: \`holds\` is as there, \`differs\` is not, for the reason beside it. Each row is a test of that name
in \`test/e2e/edge/edge.e2e.test.ts\`, where the named client asks the edges of a playground of three regions, unless another file stands there. The page
is made by \`npx vitest run --project unit test/conformance -u\` from the same table as the tests.
`

/** The page of docs/reference. */
export function edgePage(): string {
  const rows = SECTIONS.flatMap((section) => section.rows)
  const holding = rows.filter(({ verdict }) => verdict === 'holds').length
  const sum = `${rows.length} rows: ${holding} hold, ${rows.length - holding} differ.\n`
  return [HEAD, sum, ...SECTIONS.map(sectionText)].join('\n')
}

function sectionText({ title, rows }: Section): string {
  const lines = rows.map((row) => {
    const { id, says, verdict, reason = '', client = '' } = row
    return `| ${[`\`${id}\``, says, verdict, reason, client, testOf(row)].map(cell).join(' | ')} |`
  })
  return `## ${title}\n\n| row | | verdict | why | client | test |\n|---|---|---|---|---|---|\n${lines.join('\n')}\n`
}

function testOf({ id, check, elsewhere }: Row): string {
  if (elsewhere !== undefined) return `\`${elsewhere.file}\`: ${elsewhere.test}`
  return check === undefined ? '' : `\`${id}\``
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}
