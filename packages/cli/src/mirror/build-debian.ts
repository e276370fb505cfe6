import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCommand } from '@roost/base'
import { addLayer, finishImage } from './image-layout.ts'

/**
 * `debian:bookworm-slim` from Debian packages alone. mmdebstrap pulls usrmerge and with it all of perl, which nothing in
 * the image needs once /usr is merged; the hook removes them again (126 MB become 77).
 */
export async function buildDebian(dir: string, signal?: AbortSignal): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'roost-debian-'))
  try {
    for (const [name, text] of Object.entries(APT_SETTINGS)) await writeFile(join(work, name), text)
    await writeFile(
      join(work, 'policy-rc.d'),
      '#!/bin/sh\n\n# No service starts in an image.\nexit 101\n',
    )
    await writeFile(join(work, 'debian.sources'), SOURCES)
    const tar = join(work, 'root.tar')
    const hooks = [
      `dpkg --root="$1" --purge usrmerge ${PERL.join(' ')}`,
      'rm -f "$1/etc/resolv.conf" "$1/etc/hostname" "$1/etc/apt/sources.list"',
      `install -m 644 ${join(work, 'debian.sources')} "$1/etc/apt/sources.list.d/debian.sources"`,
      'rm -f "$1"/etc/apt/sources.list.d/*.list',
      ...Object.keys(APT_SETTINGS).map(
        (name) => `install -m 644 ${join(work, name)} "$1/etc/apt/apt.conf.d/${name}"`,
      ),
      `install -m 755 ${join(work, 'policy-rc.d')} "$1/usr/sbin/policy-rc.d"`,
      'rm -rf "$1"/var/log/apt "$1"/var/log/dpkg.log "$1"/var/log/alternatives.log "$1"/var/cache/apt/*.bin',
      'rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/var/cache/debconf/*-old',
    ]
    await runCommand(
      [
        'mmdebstrap',
        '--quiet',
        '--mode=root',
        '--variant=minbase',
        '--include=usr-is-merged',
        '--skip=output/dev',
        ...EXCLUDED.map((path) => `--dpkgopt=path-exclude=${path}`),
        '--dpkgopt=path-include=/usr/share/doc/*/copyright',
        ...hooks.map((hook) => `--customize-hook=${hook}`),
        'bookworm',
        tar,
        'deb http://deb.debian.org/debian bookworm main',
        'deb http://deb.debian.org/debian bookworm-updates main',
        'deb http://deb.debian.org/debian-security bookworm-security main',
      ],
      { timeoutMs: 300_000, ...(signal === undefined ? {} : { signal }) },
    )
    // Without device nodes, mmdebstrap leaves out the folder too.
    await mkdir(join(work, 'dev'), { mode: 0o755 })
    await runCommand(['tar', '--append', '--owner=0:0', '-f', tar, '-C', work, './dev'])
    const layer = await addLayer(dir, createReadStream(tar))
    await finishImage(dir, [layer], {
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      cmd: ['bash'],
      createdBy: 'roost mirror seed: debian bookworm-slim from Debian packages',
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

const PERL = [
  'libfile-find-rule-perl',
  'libnumber-compare-perl',
  'libtext-glob-perl',
  'perl',
  'perl-modules-5.36',
  'libperl5.36',
  'libgdbm-compat4',
  'libgdbm6',
]

const EXCLUDED = [
  '/usr/share/man/*',
  '/usr/share/info/*',
  '/usr/share/locale/*',
  '/usr/share/doc/*',
  '/usr/share/lintian/*',
  '/usr/share/linda/*',
  '/usr/share/groff/*',
]

/** What people expect of a Debian image: nothing that apt fetched stays in a layer. */
const APT_SETTINGS: Readonly<Record<string, string>> = {
  'docker-clean': [
    'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };',
    'APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };',
    'Dir::Cache::pkgcache "";',
    'Dir::Cache::srcpkgcache "";',
    '',
  ].join('\n'),
  'docker-gzip-indexes': 'Acquire::GzipIndexes "true";\n',
  'docker-no-languages': 'Acquire::Languages "none";\n',
  'docker-autoremove-suggests': 'Apt::AutoRemove::SuggestsImportant "false";\n',
}

const SOURCES = `Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`
