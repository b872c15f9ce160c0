#!/bin/sh
# Makes assets/sample.flv, the built-in anchor: 8 s that loop without a seam.
#
# 8 s are 8 groups of 30 pictures and exactly 375 AAC frames of 1024 samples at 48 kHz, so sound and picture end
# together. Everything that moves or sounds has a period that divides 8 s. The sound is cut out of a longer
# encoding: its first frame then overlaps with what its last frame ends in, and the encoder's priming is outside.
#
# For the eye: the bar crosses once a second at constant speed (judder shows); the dot flashes and the tone ticks on
# each full second (lip sync shows); the counter names every picture.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sans=/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf
mono=/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf

turn="2*PI*T/8"
ffmpeg -v error -y -filter_complex "
  nullsrc=s=240x136:r=30:d=8,format=yuv444p,geq=
    lum='70+22*sin(2*PI*X/W+$turn)+18*cos(2*PI*Y/H-$turn)':
    cb='140+24*sin(PI*X/W+$turn)':
    cr='120+26*cos(PI*(X+Y)/W-$turn)',
    scale=960:540:flags=bicubic,format=yuv420p[ground];
  smptehdbars=s=960x48:r=30:d=8,format=yuv420p[bars];
  color=white@0.85:s=6x300:r=30:d=8,format=yuva420p[bar];
  color=white:s=56x56:r=30:d=8,format=yuva444p,
    geq=lum=255:cb=128:cr=128:a='255*lt(hypot(X-28,Y-28),27)'[dot];
  [ground][bars]overlay=0:492[a];
  [a][bar]overlay=x='mod(round(t*30),30)*32':y=150[b];
  [b][dot]overlay=x=860:y=44:enable='lt(mod(round(t*30),30),3)'[c];
  [c]drawtext=fontfile=$sans:text=hawker:fontsize=64:fontcolor=white:x=56:y=40,
     drawtext=fontfile=$sans:text='sample anchor':fontsize=24:fontcolor=white@0.8:x=60:y=112,
     drawtext=fontfile=$mono:text='%{eif\:floor(n/30)\:d\:2}.%{eif\:mod(n,30)\:d\:2}':
       fontsize=150:fontcolor=white:borderw=3:bordercolor=black@0.4:x=(w-tw)/2:y=215,
     drawtext=fontfile=$mono:text='picture %{eif\:n\:d\:3} of 240':fontsize=28:fontcolor=white@0.9:x=(w-tw)/2:y=390[v]" \
  -map '[v]' -frames:v 240 -c:v libx264 -profile:v main -preset slower -crf 25 -pix_fmt yuv420p \
  -bf 0 -g 30 -keyint_min 30 -sc_threshold 0 -threads 1 -fflags +bitexact "$work/video.mp4"

# A soft chord whose partials all have whole cycles in 8 s, breathing twice, and a tick on each second.
chord='0.05*sin(2*PI*220*t)+0.04*sin(2*PI*277.125*t)+0.04*sin(2*PI*329.625*t)'
tick='0.12*sin(2*PI*880*t)*exp(-30*mod(t,1))'
ffmpeg -v error -y -f lavfi -i "aevalsrc=exprs='($chord)*(0.7+0.3*sin(2*PI*t/4))+$tick|($chord)*(0.7+0.3*cos(2*PI*t/4))+$tick':s=48000:d=24" \
  -c:a aac -b:a 96k -fflags +bitexact "$work/long.m4a"

# Frame i decodes to the samples from (i - 1) * 1024 on: 376 is the first that starts at 8 s.
ffmpeg -v error -y -ignore_editlist 1 -i "$work/long.m4a" -c copy \
  -bsf:a "noise=drop='lt(n,376)+gte(n,751)',setts=ts=N*1024" "$work/cut.m4a"
ffmpeg -v error -y -i "$work/video.mp4" -i "$work/cut.m4a" -map 0:v -map 1:a -c copy \
  -flvflags no_duration_filesize+no_sequence_end -fflags +bitexact "$work/sample.flv"
mv "$work/sample.flv" sample.flv
ls -l sample.flv
