import type { Section } from './row.ts'

const HEAD = `# The Machines API, row by row

What Roost makes of each promise of Fly's Machines API: \`pass\` is as there, \`differ\` is not, for the reason beside it. Nothing is left out. The
page is made by \`npx vitest run --project unit test/conformance -u\` from what the test finds; the test runs against a whole server in memory.
`

/** The page of docs/reference. */
export function conformancePage(sections: readonly Section[]): string {
  const rows = sections.flatMap((section) => section.rows)
  const passing = rows.filter(({ verdict }) => verdict === 'pass').length
  const parts = sections.map(
    ({ title, rows }) =>
      `## ${title}\n\n| | verdict | why |\n|---|---|---|\n${rows
        .map(({ says, verdict, reason = '' }) => `| ${cell(says)} | ${verdict} | ${cell(reason)} |`)
        .join('\n')}\n`,
  )
  const sum = `${rows.length} rows: ${passing} pass, ${rows.length - passing} differ, none is absent.\n`
  return [HEAD, sum, ...parts].join('\n')
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}
