// biome-ignore-all lint/suspicious/noTemplateCurlyInString: this is text of Dockerfiles
import { expect, test } from 'vitest'
import { HEREDOC_CONTEXT, type RewriteOptions, rewriteDockerfile } from './rewrite-dockerfile.ts'
import type { BaseImage } from './stage-scope.ts'

const IMAGES: Record<string, BaseImage> = {
  'with-bash': { env: { HOME_OF: '/srv' }, shell: ['/bin/bash', '-o', 'pipefail', '-c'] },
}
const asked: string[] = []
const context = { version: 1 }
const options: RewriteOptions = {
  args: { GIVEN: 'from outside' },
  cacheKey: '5e4f',
  contextDigest: async (path) => `${path} ${context.version}`,
  platform: 'linux/amd64',
  baseImage: async (reference) => {
    asked.push(reference)
    return IMAGES[reference] ?? { env: {}, shell: null }
  },
}
const LABEL = '\nLABEL roost.cache=5e4f'
/** Without what each stage gets. */
const rewrite = async (text: string) => {
  const rewritten = await rewriteDockerfile(text, options)
  return {
    ...rewritten,
    text: rewritten.text.replaceAll(LABEL, '').replace(/LABEL roost\.(bound|done)=.*\n/g, ''),
  }
}
/** The lines that are left, by number. */
const linesOf = async (text: string) =>
  (await rewrite(text)).text
    .split('\n')
    .flatMap((line, n) => (line === '' ? [] : [`${n + 1}: ${line}`]))

test.each<[string, string, string[]]>([
  ['a syntax line goes', '# syntax=docker/dockerfile:1\nFROM a\n', ['2: FROM a']],
  [
    'comments inside of a continued instruction go, and line numbers stay',
    'FROM a\nRUN x && \\\n  # why\n\n  y\nRUN z\n',
    ['1: FROM a', '2: RUN x &&   y', '6: RUN z'],
  ],
  [
    '--link goes, other flags stay',
    'FROM a\nCOPY --link --chown=1:2 --chmod=644 x y /z/\nADD --link=true x y\n',
    ['1: FROM a', '2: COPY --chown=1:2 --chmod=644 x y /z/', '3: ADD x y'],
  ],
  [
    'a here-document is the script',
    'FROM a\nRUN <<EOF\nset -e\necho "$X" \'\\n\'\nEOF\nRUN after\n',
    ['1: FROM a', '2: RUN ["/bin/sh","-c","set -e\\necho \\"$X\\" \'\\\\n\'\\n"]', '6: RUN after'],
  ],
  [
    'its tabs go with <<-, in its end too',
    'FROM a\nRUN <<-EOF\n\tone\n\t\ttwo\n\tEOF\n',
    ['1: FROM a', '2: RUN ["/bin/sh","-c","one\\ntwo\\n"]'],
  ],
  [
    'mounts stay with it',
    'FROM a\nRUN --mount=type=cache,target=/c <<EOF\nx\nEOF\n',
    ['1: FROM a', '2: RUN --mount=type=cache,target=/c ["/bin/sh","-c","x\\n"]'],
  ],
  [
    'a shell handles here-documents among other words',
    "FROM a\nRUN cat <<A - <<-'B' > /x && \\\n  true\nin a\nA\n\tin b\nB\n",
    [
      '1: FROM a',
      '2: RUN ["/bin/sh","-c","cat <<A - <<-\'B\' > /x &&   true\\nin a\\nA\\n\\tin b\\nB"]',
    ],
  ],
  [
    '<< in quotes or as <<< is none',
    'FROM a\nRUN echo "x <<EOF"\nRUN cat <<<word\nRUN ["cat", "<<EOF"]\n',
    ['1: FROM a', '2: RUN echo "x <<EOF"', '3: RUN cat <<<word', '4: RUN ["cat", "<<EOF"]'],
  ],
  [
    'SHELL decides what runs it',
    'FROM a\nSHELL ["/bin/bash", "-ec"]\nRUN <<EOF\nx\nEOF\n',
    ['1: FROM a', '2: SHELL ["/bin/bash", "-ec"]', '3: RUN ["/bin/bash","-ec","x\\n"]'],
  ],
  [
    'so does that of the image, through a stage',
    'FROM with-bash AS One\nFROM one\nRUN <<EOF\nx\nEOF\n',
    ['1: FROM with-bash AS One', '2: FROM one', '3: RUN ["/bin/bash","-o","pipefail","-c","x\\n"]'],
  ],
  [
    "the machine's own platform goes",
    'FROM --platform=$BUILDPLATFORM a AS b\nFROM --platform=linux/amd64 b\n',
    ['1: FROM a AS b', '2: FROM b'],
  ],
  [
    'another escape character',
    '# escape=`\nFROM a\nRUN x `\n  y\n',
    ['1: # escape=`', '2: FROM a', '3: RUN x   y'],
  ],
  [
    'ONBUILD COPY --link',
    'FROM a\nONBUILD COPY --link a b\n',
    ['1: FROM a', '2: ONBUILD COPY a b'],
  ],
  [
    'network and security that are the default',
    'FROM a\nRUN --network=default --security=sandbox x\n',
    ['1: FROM a', '2: RUN x'],
  ],
  [
    'a mount without a type is a bind mount',
    'FROM a\nRUN --mount=target=. x\n',
    ['1: FROM a', '2: RUN --mount=type=bind,target=. x'],
  ],
])('%s', async (_what, source, expected) => {
  expect(await linesOf(source)).toEqual(expected)
})

test.each<[string, string, string]>([
  ['plain', 'COPY <<EOF /x\na $GIVEN b\nEOF', 'a from outside b\n'],
  ['quoted', "COPY <<'EOF' /x\na $GIVEN \\$b\nEOF", 'a $GIVEN \\$b\n'],
  ['partly quoted', 'COPY <<E"O"F /x\n$GIVEN\nEOF', '$GIVEN\n'],
  [
    'escaped',
    'COPY <<EOF /x\n\\$GIVEN "$GIVEN" \'$GIVEN\'\nEOF',
    '$GIVEN "from outside" \'from outside\'\n',
  ],
  ['tabs', 'COPY <<-EOF /x\n\ta\n\t\tb\n\tEOF', 'a\nb\n'],
  ['defaults', 'COPY <<EOF /x\n${NO:-other} ${GIVEN:+set} ${NO}.\nEOF', 'other set .\n'],
  [
    'ENV before ARG',
    'ENV GIVEN="an $GIVEN env" Z=1\nCOPY <<EOF /x\n$GIVEN$Z\nEOF',
    'an from outside env1\n',
  ],
  ['outer ARG', 'ARG OUTER\nCOPY <<EOF /x\n$OUTER\nEOF', 'early\n'],
  ['undeclared outer ARG', 'COPY <<EOF /x\n<$OUTER>\nEOF', '<>\n'],
  ['of the image', 'COPY <<EOF /x\n$HOME_OF\nEOF', '/srv\n'],
  ['platform', 'ARG TARGETARCH\nCOPY <<EOF /x\n$TARGETARCH\nEOF', 'amd64\n'],
  ['empty', 'COPY <<EOF /x\nEOF', ''],
])('text of COPY: %s', async (_what, lines, content) => {
  const { files } = await rewrite(`ARG OUTER=early\nFROM with-bash\nARG GIVEN\n${lines}\n`)
  expect(files.map((file) => file.content)).toEqual([content])
})

test('COPY of several texts and a file becomes two copies, each text under its name', async () => {
  const { text, files } = await rewrite(
    'FROM a\nCOPY --link --chmod=755 <<one.txt plain.txt <<"two" /dir/\n1\none.txt\n2\ntwo\nRUN x\n',
  )
  expect(files.map(({ path, content }) => [path.split('/')[1], content])).toEqual([
    ['one.txt', '1\n'],
    ['two', '2\n'],
  ])
  const [, first, second, , , , last] = text.split('\n')
  expect(first).toBe(
    `COPY --from=${HEREDOC_CONTEXT} --chmod=755 /${files[0]?.path} /${files[1]?.path} /dir/`,
  )
  expect(second).toBe('COPY --chmod=755 plain.txt /dir/')
  expect(last).toBe('RUN x')
})

test('a script with its own interpreter is a file that runs', async () => {
  const { text, files } = await rewrite('FROM a\nRUN <<EOF\n#!/usr/bin/env node\nx()\nEOF\n')
  expect(files).toMatchObject([{ content: '#!/usr/bin/env node\nx()\n', mode: 0o755 }])
  expect(text.split('\n')[1]).toBe(
    `RUN --mount=type=bind,from=${HEREDOC_CONTEXT},source=/${files[0]?.path.split('/')[0]},target=/dev/pipes ["/dev/pipes/EOF"]`,
  )
})

test('an image is asked about only where a here-document depends on it', async () => {
  asked.length = 0
  await rewrite(
    'FROM a AS b\nCOPY <<EOF /x\nplain\nEOF\nFROM c\nRUN x\nFROM scratch\nCOPY <<E /x\n$A\nE\n',
  )
  expect(asked).toEqual([])
  await rewrite('FROM a AS b\nRUN x\nFROM c\nRUN x\nFROM b\nRUN <<E\nx\nE\n')
  expect(asked).toEqual(['a'])
})

test('the text of an instruction changes with its here-document, or old layers would be taken', async () => {
  const one = await rewrite('FROM a\nCOPY <<E /x\n1\nE\n')
  const two = await rewrite('FROM a\nCOPY <<E /x\n2\nE\n')
  expect(one.text).not.toBe(two.text)
})

test('no line is longer than the parser of buildah takes', async () => {
  const script = '# \\ word `x`\n'.repeat(7_000)
  const { text } = await rewrite(`FROM a\nRUN <<EOF\n${script}\nEOF\n`)
  const lines = text.trimEnd().split('\n').slice(1)
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(60_000)
  expect(lines.slice(1).some((line) => /^[\s#]/.test(line))).toBe(false)
  expect(lines.map((line, n) => (n < lines.length - 1 ? line.slice(0, -1) : line)).join('')).toBe(
    `RUN ${JSON.stringify(['/bin/sh', '-c', `${script}\n`])}`,
  )
})

test('steps lead from what buildah prints to what the person wrote', async () => {
  const { steps } = await rewrite('FROM a\nRUN <<EOF\n\nset -e\nEOF\n')
  expect(steps[1]).toEqual({
    line: 2,
    rewritten: 'RUN ["/bin/sh","-c","\\nset -e\\n"]',
    original: 'RUN <<EOF (set -e…)',
  })
})

test.each<[string, string]>([
  ['', 'line 1: there is no FROM'],
  ['RUN x\nFROM a\n', 'line 1: RUN before the first FROM'],
  ['FROM a\n\nFETCH x\n', 'line 3: FETCH is no instruction'],
  ['FROM a\nRUN <<EOF\nx\n', 'line 2: RUN: the here-document <<EOF has no end'],
  [
    'FROM a\nCOPY --parents a b c/\n',
    'line 2: COPY --parents is not supported: copy folder by folder',
  ],
  [
    'FROM a\nCOPY --exclude=*.md . .\n',
    'line 2: COPY --exclude=*.md is not supported: name the files in .dockerignore',
  ],
  ['FROM a\nCOPY --colour=red a b\n', 'line 2: COPY --colour=red: unknown flag'],
  [
    'FROM a\n# x\nRUN --network=none x\n',
    'line 3: RUN --network=none: steps of a build share one network',
  ],
  ['FROM a\nRUN --security=insecure x\n', 'no extra privileges'],
  ['FROM a\nRUN --mount=type=bind,target=/x,rw x\n', 'bind mounts are read-only here'],
  ['FROM a\nRUN --mount=type=secret,id=x,env=X x\n', 'read the secret from its file'],
  ['FROM a\nRUN --mount=type=magic x\n', 'unknown type of mount'],
  ['FROM a\nRUN --mount=type=cache,taget=/x x\n', 'unknown setting taget'],
  ['FROM --platform=linux/arm64 a\n', 'this builder builds for linux/amd64 only'],
  ['FROM a\nADD --checksum=sha256:1 http://x /y\n', 'check it in a RUN step'],
  ['FROM a\nADD https://example.org/x.git#main /y\n', 'clone in a RUN step'],
  ['FROM a\nONBUILD RUN <<EOF\nx\nEOF\n', 'line 2: ONBUILD with a here-document'],
  ['FROM a\nCOPY --from=b <<EOF /x\nEOF\n', 'these are two copies'],
  ['FROM a\nCOPY <<EOF\nEOF\n', 'there is no destination'],
  ['FROM a\nCOPY a <<EOF /x\nEOF\n', 'ends with /'],
  ['FROM a\nCOPY <<EOF /x\n${A\nEOF\n', 'line 2: here-document <<EOF'],
  ['FROM a b c\n', 'line 1: FROM a b c: not'],
])('%j is refused with its line and the reason', async (source, message) => {
  await expect(rewrite(source)).rejects.toThrow(message)
})

test('what is left out harmlessly is told', async () => {
  const { text, notes } = await rewrite(
    'FROM a\nHEALTHCHECK --start-interval=1s --retries=3 CMD x\n',
  )
  expect(text).toContain('HEALTHCHECK --retries=3 CMD x')
  expect(notes).toEqual(['Dockerfile line 2: HEALTHCHECK --start-interval=1s is left out'])
})

test('whatever follows a FROM shares results with builds of the same key alone', async () => {
  const { text } = await rewriteDockerfile('FROM a AS one\nFROM one\nRUN x\n', options)
  expect(text).toContain(`FROM a AS one${LABEL}\nFROM one${LABEL}\nRUN x\n`)
})

test('a RUN that binds something has another history when that changes, and only then', async () => {
  const labels = async (run: string, args = {}) => {
    const file = `FROM a AS one\nFROM b\n${run}\n`
    const { text } = await rewriteDockerfile(file, { ...options, args })
    return text.match(/^LABEL roost\.bound=.*$/gm) ?? []
  }
  const [own, some, all] = ['source=x,target=/x', 'src=$X,target=/x', 'target=/x'].map(
    (rest) => `RUN --mount=type=bind,${rest} make`,
  ) as [string, string, string]
  const stage = 'RUN --mount=from=one,target=/x make'
  const [first, second] = [await labels(own), await labels(own)]
  expect(first).toHaveLength(1)
  expect(second).toEqual(first)
  expect(await labels(some)).toEqual(await labels(all))
  expect(await labels(stage)).not.toEqual(await labels(stage, { A: '1' }))
  for (const run of [own, some, all, stage]) {
    const before = await labels(run)
    context.version += 1
    expect(await labels(run)).not.toEqual(before)
  }
  for (const run of [
    'RUN make',
    'RUN --mount=type=cache,target=/c make',
    'RUN --mount=from=c:1,target=/x make',
  ])
    expect(await labels(run)).toEqual([])
})

test('a stage that a RUN binds ends with a step of its own in each build, no other does', async () => {
  const file = 'FROM a AS one\nFROM b AS two\nFROM c\nRUN --mount=from=TWO,target=/x make\n'
  const [first, second] = [
    await rewriteDockerfile(file, options),
    await rewriteDockerfile(file, options),
  ]
  expect(
    first.text
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/=.*/, '')),
  ).toEqual([
    ...[
      'FROM a AS one',
      'LABEL roost.cache',
      'FROM b AS two',
      'LABEL roost.cache',
      'LABEL roost.done',
    ],
    ...['FROM c', 'LABEL roost.cache', 'LABEL roost.bound', 'RUN --mount'],
  ])
  expect(second.text).not.toBe(first.text)
})
